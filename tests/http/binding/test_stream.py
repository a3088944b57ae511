import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.bound import Bound, bind
from asgipipe.http.types import Message, Scope
from tests.http.binding.conftest import LIMITS, PATIENCE, Ask

T = TypeVar("T")


class Client:
    """Sends a request and goes away when it is told to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.messages.put_nowait({"type": "http.request"})
        self.sent: list[Message] = []
        self.got = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.got.set()

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


@pytest.mark.parametrize("chunks", [[], ["a"], ["ü", b"\xc3", b"\xbc", ""]])
@pytest.mark.parametrize("is_async", [True, False])
def test_generators_stream_text(ask: Ask, chunks: list[str | bytes], is_async: bool) -> None:
    """A generator's text and bytes are sent piece by piece as UTF-8 text, with an end."""

    def plain() -> Iterator[str | bytes]:
        yield from chunks

    async def waiting() -> AsyncIterator[str | bytes]:
        for chunk in chunks:
            yield chunk

    answer = ask(waiting if is_async else plain)
    assert (answer.status, answer.headers) == (200, {b"content-type": b"text/plain; charset=utf-8"})
    assert answer.body == b"".join(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks)
    assert answer.ended
    assert len(answer.messages) == len(chunks) + 2


def test_a_returned_generator_streams(ask: Ask) -> None:
    """A handler that returns a generator streams it, too."""

    def handler(n: int) -> Iterator[str]:
        return (str(i) for i in range(n))

    assert ask(handler, query="n=3").body == b"012"


def test_sync_generators_run_in_threads(ask: Ask) -> None:
    """Each step of a plain generator runs outside the event loop's thread."""
    seen = set()

    def handler() -> Iterator[str]:
        for _ in range(3):
            seen.add(threading.get_ident())
            yield "x"

    assert ask(handler).body == b"xxx"
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("error", [LookupError("inside"), SystemExit("inside"), StopIteration("inside")])
def test_failing_streams(ask: Ask, caplog: pytest.LogCaptureFixture, error: BaseException, is_async: bool) -> None:
    """A generator that fails at once is a problem; one that fails later ends without its end; both are logged."""

    def plain(n: int) -> Iterator[str]:
        yield from ["x"] * n
        raise error

    async def waiting(n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield "x"
        raise error

    handler = waiting if is_async else plain
    assert ask(handler, query="n=0").problem["status"] == 500
    late = ask(handler, query="n=2")
    assert (late.status, late.body, late.ended) == (200, b"xx", False)
    assert caplog.text.count("failed") >= 2


@pytest.mark.parametrize("chunk", [3, None, "\ud800"])
def test_chunks_that_cannot_be_sent(ask: Ask, caplog: pytest.LogCaptureFixture, chunk: object) -> None:
    """A chunk that is no text is a failure, not the end of the stream."""

    def handler():  # type: ignore[no-untyped-def]
        yield chunk

    assert ask(handler).problem["status"] == 500
    assert caplog.records


def test_item_types_are_checked_when_bound(bound: Callable[..., Bound]) -> None:
    """A generator that is declared to yield something else is refused before the first request."""

    def handler() -> Iterator[int]:
        yield 1

    with pytest.raises(
        DefinitionError, match=re.escape("yields int; a handler that is a generator yields str or bytes")
    ):
        bound(handler)


def test_an_async_generator_is_interrupted_by_a_disconnect(
    bound: Callable[..., Bound], scope: Callable[..., Scope]
) -> None:
    """When the client goes away the generator is cancelled where it waits, and cleaned up before the endpoint ends."""
    closed = []

    async def handler() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def run() -> list[Message]:
        client = Client()
        task = asyncio.create_task(bound(handler).app(scope(), client.messages.get, client.send))
        await asyncio.wait_for(client.got.wait(), PATIENCE)
        client.leave()
        await asyncio.wait_for(task, PATIENCE)
        assert len(asyncio.all_tasks()) == 1
        return client.sent

    sent = asyncio.run(run())
    assert closed == [True]
    assert sent[-1]["more_body"]


def test_a_generator_that_swallows_its_interruption(bound: Callable[..., Bound], scope: Callable[..., Scope]) -> None:
    """A generator that goes on after the disconnect is closed at its next chunk."""
    closed = []

    async def handler() -> AsyncIterator[str]:
        try:
            yield "first"
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            while True:
                yield "more"
        finally:
            closed.append(True)

    async def run() -> list[Message]:
        client = Client()
        task = asyncio.create_task(bound(handler).app(scope(), client.messages.get, client.send))
        await asyncio.wait_for(client.got.wait(), PATIENCE)
        client.leave()
        await asyncio.wait_for(task, PATIENCE)
        return client.sent

    assert [message.get("body") for message in asyncio.run(run())] == [None, b"first"]
    assert closed == [True]


def test_a_sync_generator_is_closed_after_a_disconnect(
    bound: Callable[..., Bound], scope: Callable[..., Scope]
) -> None:
    """A plain generator is closed when the client goes away, by the thread that is in it, when that comes back."""
    inside, release, closed = threading.Event(), threading.Event(), threading.Event()

    def handler() -> Iterator[str]:
        try:
            yield "first"
            inside.set()
            release.wait(PATIENCE)
            yield "never sent"
        finally:
            closed.set()

    async def run() -> list[Message]:
        client = Client()
        task = asyncio.create_task(bound(handler).app(scope(), client.messages.get, client.send))
        assert await asyncio.to_thread(inside.wait, PATIENCE)
        client.leave()
        await asyncio.wait_for(task, PATIENCE)
        assert not closed.is_set()
        release.set()
        assert await asyncio.to_thread(closed.wait, PATIENCE)
        return client.sent

    assert [message.get("body") for message in asyncio.run(run())] == [None, b"first"]


def test_a_step_that_never_began_does_not_keep_a_generator_open(
    bound: Callable[..., Bound], scope: Callable[..., Scope]
) -> None:
    """A plain generator is closed, in a thread, also when its next step was still waiting for one."""
    closed: list[int] = []
    steps: list[Callable[[], object]] = []
    waiting = asyncio.Event()

    async def run_in_thread(function: Callable[[], T]) -> T:
        steps.append(function)
        if len(steps) == 3:  # after the call and the first chunk
            waiting.set()
            await asyncio.Event().wait()
        return await asyncio.to_thread(function)

    def handler() -> Iterator[str]:
        try:
            yield "first"
            yield "never sent"
        finally:
            closed.append(threading.get_ident())

    app = bind(handler, name="h", path="/x", method="GET", limits=LIMITS, run_in_thread=run_in_thread).app

    async def run() -> None:
        client = Client()
        task = asyncio.create_task(app(scope(), client.messages.get, client.send))
        await asyncio.wait_for(waiting.wait(), PATIENCE)
        client.leave()
        await asyncio.wait_for(task, PATIENCE)

    asyncio.run(run())
    assert len(closed) == 1
    assert closed[0] != threading.get_ident()
    assert steps[2]() == (None, None)


def test_a_gone_client_closes_a_suspended_sync_generator(
    bound: Callable[..., Bound], scope: Callable[..., Scope]
) -> None:
    """A server whose `send` raises OSError has lost its client: the generator is closed, nothing is raised."""
    closed = []

    def handler() -> Iterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            closed.append(threading.get_ident())

    async def send(message: Message) -> None:
        if message.get("body"):
            raise OSError("gone")

    asyncio.run(bound(handler).app(scope(), Client().messages.get, send))
    assert len(closed) == 1
    assert closed[0] != threading.get_ident()


def test_what_a_generator_raises_while_closed_is_logged(
    bound: Callable[..., Bound], scope: Callable[..., Scope], caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the `finally` of a generator that is closed only goes to the log."""

    def handler() -> Iterator[str]:
        try:
            yield "first"
        finally:
            raise SystemExit("in finally")

    async def send(message: Message) -> None:
        if message.get("body"):
            raise OSError("gone")

    asyncio.run(bound(handler).app(scope(), Client().messages.get, send))
    assert "in finally" in caplog.text


def test_a_cancelled_stream_cleans_up_and_passes_the_cancellation(
    bound: Callable[..., Bound], scope: Callable[..., Scope]
) -> None:
    """When the server cancels the request, the generator is closed and the cancellation goes on."""
    closed = []

    async def handler() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def run() -> None:
        client = Client()
        task = asyncio.create_task(bound(handler).app(scope(), client.messages.get, client.send))
        await asyncio.wait_for(client.got.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert closed == [True]
