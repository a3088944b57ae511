"""An ASGI application inside a view of somebody else's framework.

A view is given a request and returns a response; an application talks both ways. The bridge runs the application in a
task of its own and hands out its answer: complete where it came in one piece, else piece by piece.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType

from asgipipe.http.types import ASGIApp, HeaderList, Message, Receive, Scope

_running: set[asyncio.Task[None]] = set()
"""Tasks that nobody else holds; the event loop itself keeps only weak references."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is complete, or None; then `chunks` yields it piece by piece."""

    status: int
    headers: HeaderList
    body: bytes | None
    chunks: "Chunks | None" = None


async def answer(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """Run `app` for one HTTP request and return its answer as soon as it begins to come.

    `receive` gives the request's body. When the caller is cancelled, or closes `chunks` early, the application is told
    that the client went away and goes on as it likes: what a run does then is a setting of the deployment's. Raises
    what the application raises before it answers; an answer that breaks off later raises ConnectionAbortedError, in
    place of what would look complete.
    """
    conversation = _Conversation(receive)
    # What a server can do beside plain ASGI, such as sending files itself, is not ours to promise.
    task = asyncio.create_task(conversation.run(app, {**scope, "extensions": {}}))
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        await asyncio.shield(conversation.begun)
    except asyncio.CancelledError:
        conversation.leave()
        raise
    return conversation.answer()


class Chunks(AsyncGenerator[bytes, None]):
    """The pieces of an answer. Whoever takes no more closes it, from its first piece on or before."""

    def __init__(self, conversation: "_Conversation") -> None:
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()

    async def asend(self, value: None) -> bytes:
        piece = await self._conversation.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def athrow(  # the signature of the abstract method
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> bytes:
        self._conversation.leave()
        raise typ

    async def aclose(self) -> None:
        self._conversation.leave()

    def close(self) -> None:
        """Do what `aclose` does, from any thread."""
        with contextlib.suppress(RuntimeError):  # a closed loop has no application waiting any more
            self._loop.call_soon_threadsafe(self._conversation.leave)

    def __del__(self) -> None:
        if not self._conversation.ended:  # a response that was made and thrown away
            self.close()


class _Conversation:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received = False
        self._start: Message = {}
        self._whole: bytes | None = None
        self._complete = False
        self._failure: BaseException | None = None
        self._pieces: deque[bytes] = deque()
        self._change: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False

    # The application's side

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._next_message, self._send)
        except asyncio.CancelledError as error:
            self._failure = error
            raise
        except BaseException as error:  # boundary: whoever asked is told; a SystemExit in a task would stop the server
            self._failure = error
        finally:
            self._end()

    async def _next_message(self) -> Message:
        if not self._received and not self._gone.is_set():
            message = await self._receive()
            self._received = not message.get("more_body", False)
            return message
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._complete:
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self.begun.done():
            self._whole = None if more else body
            self.begun.set_result(None)
        if body and self._whole is None:
            await self._put(body)
        if not more:
            self._complete = True
            self.leave()  # as servers do: Quart ends only when `receive` says so

    async def _put(self, piece: bytes) -> None:
        """Wait until there is room: one piece at most is there to be taken, so a slow client slows the application."""
        while self._pieces and not self._gone.is_set():
            await self._changed()
        if not self._gone.is_set():  # whoever reads no more lets everything pass
            self._pieces.append(piece)
            self._tell()

    def _end(self) -> None:
        self.ended = True
        if not self.begun.done():
            self.begun.set_exception(self._reason())
            self.begun.exception()  # seen, also when nobody waits any more
        self._tell()

    def _reason(self) -> BaseException:
        failure = self._failure
        if failure is None or isinstance(failure, asyncio.CancelledError | StopIteration):  # no future takes those
            reason = ConnectionAbortedError("the application ended without an answer")
            reason.__cause__ = failure
            return reason
        return failure

    # The view's side

    def answer(self) -> Answer:
        status, headers = self._start["status"], self._start.get("headers", ())
        return Answer(status, headers, self._whole, Chunks(self) if self._whole is None else None)

    async def next_piece(self) -> bytes | None:
        """Return the next piece, None after the last one."""
        try:
            while not (self._pieces or self.ended or self._complete or self._gone.is_set()):
                await self._changed()
        except asyncio.CancelledError:
            self.leave()
            raise
        if self._pieces:
            piece = self._pieces.popleft()
            self._tell()
            return piece
        if not self._complete and not self._gone.is_set():
            raise ConnectionAbortedError("the answer broke off") from self._failure
        return None

    def leave(self) -> None:
        """Tell the application that the client went away."""
        self._gone.set()
        self._tell()

    # Between the two

    async def _changed(self) -> None:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def _tell(self) -> None:
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)
