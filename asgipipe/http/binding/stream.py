"""Answers that a generator yields, piece by piece."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator
from typing import Protocol, TypeVar

from asgipipe.errors import HTTPError
from asgipipe.http.binding.failure import guarded
from asgipipe.http.responses import TEXT
from asgipipe.http.types import Receive, Send

logger = logging.getLogger("asgipipe")

T = TypeVar("T")


class RunInThread(Protocol):
    """Runs a function in a thread and returns what it returns."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class Chunks(Protocol):
    """What a generator yields; `next()` returns None at its end."""

    async def next(self) -> bytes | None: ...

    async def close(self) -> None: ...


class AsyncChunks:
    def __init__(self, generator: AsyncGenerator[object, None]) -> None:
        self._generator = generator

    async def next(self) -> bytes | None:
        async for chunk in self._generator:
            return encoded(chunk)
        return None

    async def close(self) -> None:
        await self._generator.aclose()


class SyncChunks:
    """A plain generator, run in threads; when it is closed while a thread is in it, that thread closes it."""

    def __init__(self, generator: Generator[object, None, None], run_in_thread: RunInThread) -> None:
        self._generator = generator
        self._run_in_thread = run_in_thread
        self._lock = threading.Lock()
        self._running = False
        self._closing = False

    async def next(self) -> bytes | None:
        chunk, error = await self._run_in_thread(self._step)
        if error is not None:
            raise error
        return chunk

    async def close(self) -> None:
        with self._lock:
            self._closing = True
            running = self._running
        if not running:
            error = await self._run_in_thread(self._close)
            if error is not None:
                raise error

    def _step(self) -> tuple[bytes | None, BaseException | None]:
        with self._lock:
            if self._closing:
                return None, None
            self._running = True
        chunk, error = None, None
        try:
            for item in self._generator:
                chunk = encoded(item)
                break
        except BaseException as raised:  # boundary: user code may raise anything; it is raised again on the event loop
            error = raised
        with self._lock:
            self._running = False
            closing = self._closing
        if closing:
            error = self._close() or error
        return chunk, error

    def _close(self) -> BaseException | None:
        try:
            self._generator.close()
        except BaseException as error:  # boundary: user code may raise anything, also in its `finally`
            return error
        return None


def encoded(chunk: object) -> bytes:
    """Return what a generator yielded as bytes. Raises TypeError when it is neither text nor bytes."""
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, bytes):
        return chunk
    raise TypeError(f"a handler that is a generator yields str or bytes, not {type(chunk).__name__}")


async def stream(label: str, first: bytes | None, chunks: Chunks, receive: Receive, send: Send) -> None:
    """Send `first` and the chunks after it as text, until they end or the client goes away.

    Raises InternalError, logged, when the generator failed; what was sent then has no end, so that the client sees that
    it is not whole.
    """
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    # A disconnect brings this deadline forward to now, which interrupts the generator wherever it waits.
    leash = asyncio.timeout(None)
    try:
        async with leash:
            watcher = asyncio.create_task(_watch(receive, leash))
            try:
                await _send_all(label, first, chunks, send, leash)
            finally:
                watcher.cancel()
    except TimeoutError:
        return


async def while_connected(work: Awaitable[None], receive: Receive) -> None:
    """Await `work`, which is interrupted wherever it waits when the client goes away."""
    leash = asyncio.timeout(None)
    try:
        async with leash:
            watcher = asyncio.create_task(_watch(receive, leash))
            try:
                await work
            finally:
                watcher.cancel()
    except TimeoutError:
        if not leash.expired():
            raise


async def guarded_items(label: str, items: AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Pass on the items of a response's body; what they raise leaves as HTTPError, as with `guarded`.

    Starlette iterates over the body in a task of its own; a SystemExit that leaves a task stops the server.
    """
    iterator = aiter(items)
    while True:
        found = await guarded(label, _next(iterator))
        if not found:
            return
        yield found[0]


async def _next(iterator: AsyncIterator[T]) -> list[T]:
    async for item in iterator:
        return [item]
    return []


async def close(label: str, chunks: Chunks) -> None:
    """Close a generator; what it raises while it is closed only goes to the log."""
    try:
        await guarded(label, chunks.close())
    except HTTPError:
        return


async def _send_all(label: str, chunk: bytes | None, chunks: Chunks, send: Send, leash: asyncio.Timeout) -> None:
    while chunk is not None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        chunk = await guarded(label, chunks.next())
        if leash.expired():
            return  # the generator swallowed its interruption
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch(receive: Receive, leash: asyncio.Timeout) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception:  # boundary: servers differ in what they raise when nobody is there any more
        logger.debug("receiving failed while a stream was sent", exc_info=True)
    leash.reschedule(asyncio.get_running_loop().time())
