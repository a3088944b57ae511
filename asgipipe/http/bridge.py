"""An ASGI application inside a view of somebody else's framework.

A view is given a request and returns a response; an application talks both ways. The bridge runs the application in a
task of its own and hands out its answer: complete where it came in one piece, else piece by piece.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from asgipipe.http.types import ASGIApp, HeaderList, Message, Receive, Scope

_running: set[asyncio.Task[None]] = set()
"""Tasks that nobody else holds; the event loop itself keeps only weak references."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is complete, or None; then `chunks` yields it piece by piece."""

    status: int
    headers: HeaderList
    body: bytes | None
    chunks: AsyncGenerator[bytes, None] | None = None


async def answer(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """Run `app` for one HTTP request and return its answer as soon as it begins to come.

    `receive` gives the request's body. When the caller is cancelled, or closes `chunks` early, the application is told
    that the client went away and goes on as it likes: what a run does then is a setting of the deployment's. An answer
    that breaks off raises ConnectionAbortedError, in place of what would look complete.
    """
    conversation = _Conversation(receive)
    task = asyncio.create_task(conversation.run(app, scope))
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        await asyncio.shield(conversation.begun)
    except asyncio.CancelledError:
        conversation.gone.set()
        raise
    return conversation.answer()


class _Conversation:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._start: Message = {}
        self._whole: bytes | None = None
        self._received = False
        self._complete = False
        # One piece at most waits to be taken, so a slow client slows the application.
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._next_message, self._send)
        finally:
            if not self.begun.done():
                self.begun.set_exception(ConnectionAbortedError("the application ended without an answer"))
                self.begun.exception()  # seen, also when nobody waits any more
            elif not self._complete:
                await self._put(None)

    def answer(self) -> Answer:
        status, headers = self._start["status"], self._start.get("headers", ())
        return Answer(status, headers, self._whole, self._chunks() if self._whole is None else None)

    async def _next_message(self) -> Message:
        if not self._received:
            message = await self._receive()
            self._received = not message.get("more_body", False)
            return message
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        self._complete = not more
        if not self.begun.done():
            self._whole = None if more else body
            self.begun.set_result(None)
            if not more:
                return
        if body:
            await self._put(body)
        if not more:
            await self._put(None)

    async def _put(self, piece: bytes | None) -> None:
        """Wait until there is room; whoever reads no more lets everything pass."""
        if self.gone.is_set():
            return
        putting = asyncio.ensure_future(self._pieces.put(piece))
        leaving = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait((putting, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            leaving.cancel()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
            if not self._complete:
                raise ConnectionAbortedError("the answer broke off")
        finally:
            self.gone.set()
