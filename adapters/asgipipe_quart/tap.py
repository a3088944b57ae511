"""Access to the connection itself, behind Quart's back.

Quart reads ahead, keeps the close code of a WebSocket to itself, and cancels a view whose client went away. What runs
an ASGI application inside a view needs more than that: the messages as they came, and to be left to its end.
"""

import asyncio
from collections import deque

from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send

KEY = "asgipipe.quart"


class Tap:
    """Stands between the server and Quart, for one request or WebSocket.

    Until `take` is called Quart sees everything, and what an application will need is kept: of a body no more than
    `limit` bytes and the piece that goes beyond it, which is enough to refuse it. From then on the messages go to
    `receive`; Quart gets only what it needs to complete a body.
    """

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive = receive
        self.send = send
        self.reader: Receive = self.receive
        self._room = limit
        self._kept: deque[Message | Exception] | None = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._taken = False
        self._over = False
        self._reading: asyncio.Task[object] | None = None

    def take(self) -> None:
        self._taken = True

    def leave(self) -> None:
        """Keep nothing: Quart answers itself."""
        if not self._taken:
            self._kept = None

    def hang_up(self) -> None:
        """Let the application know that nobody takes its answer any more, and let Quart read no further.

        Until 0.23 Quart stops reading when it has answered. Since then it waits for a disconnect, which not all servers
        send: gunicorn's worker waits until the client is gone.
        """
        self._keep({"type": "http.disconnect"})
        self._over = True
        if self._reading is not None:
            self._reading.cancel()

    def end_with_view(self) -> None:
        """Hang up when the current task ends, in which Quart runs its view."""
        task = asyncio.current_task()
        assert task is not None, "a view runs in a task"
        task.add_done_callback(lambda _: self.hang_up())

    async def for_quart(self) -> Message:
        """Return the next message that Quart has to see."""
        self._reading = asyncio.current_task()
        if self._over:
            raise asyncio.CancelledError
        while True:
            try:
                message = await self._receive()
            except Exception as error:  # boundary: what a server's `receive` raises goes to whoever reads now
                if not self._taken:
                    raise
                self._keep(error)
                return await _never()
            kind = message["type"]
            if kind == "http.request":
                self._keep_piece(message)
                return message
            # From 0.23 on a view may begin, and take the connection, before Quart reads anything.
            if kind == "websocket.connect" or (not self._taken and kind != "http.disconnect"):
                return message
            self._keep(message)
            if not self._taken:
                return message
            if kind != "websocket.receive":
                return await _never()
            await self._until_read()

    async def from_quart(self, message: Message) -> None:
        await self.send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.hang_up()

    async def receive(self) -> Message:
        """Return the next message of what was taken; after a disconnect that one again."""
        kept = self._kept
        assert kept is not None, "taken after it was left"
        while not kept:
            self._arrived.clear()
            await self._arrived.wait()
        first = kept[0]
        if isinstance(first, Exception):
            raise first
        if not first["type"].endswith(".disconnect"):
            kept.popleft()
            self._emptied.set()
        return first

    def _keep_piece(self, message: Message) -> None:
        if self._room >= 0:
            self._room -= len(message.get("body", b""))
            self._keep(message)

    def _keep(self, item: Message | Exception) -> None:
        if self._kept is not None:
            self._kept.append(item)
            self._arrived.set()

    async def _until_read(self) -> None:
        """Wait until the message was read, so that a slow application slows its client."""
        while self._kept:
            self._emptied.clear()
            await self._emptied.wait()


class Tapped:
    """Puts a tap into the scope of every connection to `app` below `prefix`."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tap = Tap(receive, send, self._limit)
        try:
            await self._app({**scope, KEY: tap}, tap.for_quart, tap.from_quart)
        except BaseExceptionGroup as group:  # of Quart's tasks, from 0.23 on
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from group.exceptions[0].__cause__


def tap_of(scope: Scope) -> Tap:
    tap: Tap = scope[KEY]
    return tap


async def _never() -> Message:
    """Wait to be cancelled, which happens as soon as the view has ended."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never
