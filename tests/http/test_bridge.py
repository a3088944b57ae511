import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from asgipipe.http import bridge
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from tests.conftest import PATIENCE
from tests.http.wire import until

START = {"type": "http.response.start", "status": 207, "headers": [(b"x-kind", b"a"), (b"x-kind", b"b")]}


def piece(body: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sending(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def body(*chunks: bytes) -> Receive:
    left = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def send_much(send: Send) -> None:
    for _ in range(100):
        await send(piece(b"nobody reads this", True))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), PATIENCE)

    asyncio.run(main())


def test_an_answer_in_one_piece_is_complete() -> None:
    """Its body, status and headers are those that were sent, repeated headers too."""

    async def test() -> None:
        answer = await bridge.answer(sending(START, piece(b"all")), {}, body(b""))
        assert (answer.status, answer.headers, answer.body, answer.chunks) == (207, START["headers"], b"all", None)

    run(test)


@pytest.mark.parametrize("last", [b"", b"c"])
def test_an_answer_in_pieces_is_streamed(last: bytes) -> None:
    """Every piece arrives once, in order, the last one too."""

    async def test() -> None:
        app = sending(START, piece(b"a", True), piece(b"", True), piece(b"b", True), piece(last))
        answer = await bridge.answer(app, {}, body(b""))
        assert answer.chunks is not None
        assert b"".join([each async for each in answer.chunks]) == b"ab" + last

    run(test)


@pytest.mark.parametrize("pieces", [[b"all"], [b"a", b"b"]])
def test_after_its_answer_an_application_is_told_to_end(pieces: list[bytes]) -> None:
    """An application may go on until `receive` says that the exchange is over; what it sent before is whole."""
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await sending(START, *(piece(each, each != pieces[-1]) for each in pieces))(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    async def test() -> None:
        answer = await bridge.answer(app, {}, body(b""))
        got = answer.body if answer.chunks is None else b"".join([each async for each in answer.chunks])
        assert got == b"".join(pieces)
        await ended.wait()

    run(test)


def test_the_body_is_passed_on_as_it_is_asked_for() -> None:
    """Piece by piece, and after the last one the application waits for the client."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        read, more = b"", True
        while more:
            message = await receive()
            read, more = read + message["body"], message["more_body"]
        await send(START)
        await send(piece(read, True))
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    heard = asyncio.Event()

    async def test() -> None:
        answer = await bridge.answer(app, {}, body(b"1", b"2", b"3"))
        assert answer.chunks is not None
        assert await anext(answer.chunks) == b"123"
        assert not heard.is_set()
        await answer.chunks.aclose()
        await heard.wait()

    run(test)


def test_a_slow_reader_slows_the_application() -> None:
    """One piece at most waits to be taken."""
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(10):
            await send(piece(b"x", True))
            sent += 1

    async def test() -> None:
        answer = await bridge.answer(app, {}, body(b""))
        assert answer.chunks is not None
        for taken in range(5):
            await until(lambda taken=taken: sent > taken)
            for _ in range(5):
                await asyncio.sleep(0)
            assert sent <= taken + 1
            await anext(answer.chunks)
        await answer.chunks.aclose()
        await until(lambda: sent == 10)

    run(test)


@pytest.mark.parametrize("way", ["cancelled", "closed", "closed from a thread", "thrown away", "cancelled reading"])
def test_the_application_survives_whoever_asked(way: str) -> None:
    """It is told that the client went away, and goes on to its own end, however the view ends."""
    told, finished = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if way != "cancelled":
            await send(START)
            await send(piece(b"first", True))
        assert (await receive())["type"] == "http.disconnect"
        told.set()
        await send_much(send)
        finished.set()

    async def ask() -> None:
        answer = await bridge.answer(app, {}, body(b""))
        assert answer.chunks is not None
        if way == "closed":
            await answer.chunks.aclose()
        elif way == "closed from a thread":
            await asyncio.to_thread(answer.chunks.close)
        elif way == "cancelled reading":
            await anext(answer.chunks)
            await anext(answer.chunks)

    async def test() -> None:
        task = asyncio.create_task(ask())
        if way.startswith("cancelled"):
            for _ in range(10):
                await asyncio.sleep(0)
            assert not told.is_set()
            task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
        await told.wait()
        await finished.wait()

    run(test)


@pytest.mark.parametrize("error", [LookupError("a"), SystemExit(3), StopIteration()])
def test_what_is_raised_before_the_answer_reaches_whoever_asked(error: BaseException) -> None:
    """And nobody else: neither the event loop nor the log of tasks that nobody awaited."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise error

    async def test() -> None:
        with pytest.raises((LookupError, SystemExit, RuntimeError, ConnectionAbortedError)) as raised:
            await bridge.answer(app, {}, body(b""))
        assert error in (raised.value, raised.value.__cause__) or isinstance(raised.value, RuntimeError | OSError)

    run(test)


def test_no_answer_at_all_is_an_error() -> None:
    """An application that just returns has not answered."""

    async def test() -> None:
        with pytest.raises(ConnectionAbortedError, match="without an answer"):
            await bridge.answer(sending(), {}, body(b""))

    run(test)


@pytest.mark.parametrize("raises", [False, True])
def test_an_answer_that_breaks_off_does_not_look_complete(raises: bool) -> None:
    """What came before arrives, then there is an error in place of an end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(piece(b"half", True))
        if raises:
            raise LookupError

    async def test() -> None:
        answer = await bridge.answer(app, {}, body(b""))
        assert answer.chunks is not None
        assert await anext(answer.chunks) == b"half"
        with pytest.raises(ConnectionAbortedError, match="broke off"):
            await anext(answer.chunks)

    run(test)


def test_extensions_of_the_server_are_not_promised() -> None:
    """Such as sending files itself: its messages mean nothing to a view."""
    seen: dict[str, object] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope)
        await sending(START, piece(b""))(scope, receive, send)

    async def test() -> None:
        given = {"type": "http", "extensions": {"http.response.pathsend": {}}}
        await bridge.answer(app, given, body(b""))
        assert seen["extensions"] == {}
        assert given["extensions"]

    run(test)
