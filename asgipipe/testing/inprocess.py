"""A client that is the server: it calls the ASGI application in its own process, as a server would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import unquote

from asgipipe.http.types import ASGIApp, Message, Scope
from asgipipe.testing.client import (
    PATIENCE,
    Answer,
    Ask,
    BrokenOffError,
    Client,
    Headers,
    WebSocketClosed,
    WebSocketRefused,
    offered,
    whole,
)


class InProcessClient(Client):
    """`state` is what the lifespan gave."""

    def __init__(
        self,
        app: ASGIApp,
        prefix: str = "",
        always: Headers | None = None,
        *,
        state: dict[str, object] | None = None,
    ) -> None:
        super().__init__(prefix, always)
        self.app = app
        self.state = state or {}

    async def _send(self, ask: Ask) -> Answer:
        async with _Exchange(self.app, self._scope(ask), ask) as exchange:
            body, complete = await whole(exchange)
            return Answer(exchange.status, exchange.headers, body, complete)

    @asynccontextmanager
    async def _stream(self, ask: Ask) -> AsyncIterator["_Exchange"]:
        async with _Exchange(self.app, self._scope(ask), ask) as exchange:
            yield exchange

    @asynccontextmanager
    async def _websocket(self, ask: Ask) -> AsyncIterator["_Socket"]:
        scope = self._scope(ask)
        del scope["method"]
        extensions: dict[str, object] = {"websocket.http.response": {}}
        more = {"type": "websocket", "scheme": "ws", "subprotocols": offered(ask), "extensions": extensions}
        async with _Socket(self.app, {**scope, **more}) as socket:
            yield socket

    def _scope(self, ask: Ask) -> Scope:
        target, _, query = ask.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": ask.method,
            "scheme": "http",
            "path": unquote(target),
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": ask.fields(),
            "client": ("127.0.0.1", 40000),
            "server": ("testserver", 80),
            "state": dict(self.state),
        }


class _Conversation:
    """An application in a task of its own, with a queue either way."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        # A server takes the next piece when the client took the last one, more or less.
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue(4)
        self._gone = asyncio.Event()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._inbox.get, self._put)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: what an application raises belongs to whoever asked it
            self._error = error
        await self._put(None)

    async def _put(self, message: Message | None) -> None:
        """Wait until there is room; for a client that is gone everything is dropped, as servers do."""
        if self._gone.is_set():
            return
        putting = asyncio.ensure_future(self._outbox.put(message))
        leaving = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((putting, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            leaving.cancel()

    async def _next(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            message = await self._outbox.get()
        if message is None:
            raise BrokenOffError("the application ended before its answer did") from self._error
        return message

    def _hang_up(self, last: Message) -> None:
        """Tell the application that its client is gone."""
        self._gone.set()
        self._inbox.put_nowait(last)

    async def _leave(self, last: Message) -> None:
        """Tell the application that its client is gone, and wait for its end."""
        self._hang_up(last)
        if self._task is not None:
            _, pending = await asyncio.wait((self._task,), timeout=PATIENCE)
            for task in pending:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            assert not pending, "the application went on without its client"


class _Exchange(_Conversation):
    """One HTTP request and its answer."""

    def __init__(self, app: ASGIApp, scope: Scope, ask: Ask) -> None:
        super().__init__(app, scope)
        chunks = [ask.body] if ask.chunks is None else list(ask.chunks)
        for index, chunk in enumerate(chunks):
            more = index < len(chunks) - 1
            self._inbox.put_nowait({"type": "http.request", "body": chunk, "more_body": more})
        self._start: Message = {}

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            self._start = await self._next()
        except BrokenOffError as error:
            await self._leave({"type": "http.disconnect"})
            raise AssertionError("the application did not answer") from error
        except asyncio.CancelledError:  # the client did not wait for it, and does not wait for the application's end
            self._hang_up({"type": "http.disconnect"})
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        status: int = self._start["status"]
        return status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        given = self._start.get("headers", ())
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in given)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._next()
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]


class _Socket(_Conversation):
    subprotocol: str | None = None

    async def __aenter__(self) -> Self:
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._begin()
        try:
            first = await self._next()
        except BrokenOffError:
            first = {"type": "websocket.http.response.start", "status": 500}  # what a server makes of it
        if first["type"] == "websocket.accept":
            self.subprotocol = first.get("subprotocol")
            return self
        await self._leave({"type": "websocket.disconnect", "code": 1006})
        raise WebSocketRefused(first.get("status", 403))

    async def __aexit__(self, *_: object) -> None:
        await self._leave({"type": "websocket.disconnect", "code": 1000})

    async def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._inbox.put_nowait({"type": "websocket.receive", kind: message})

    async def receive(self) -> str | bytes:
        try:
            message = await self._next()
        except BrokenOffError:
            raise WebSocketClosed(1006) from None
        if message["type"] == "websocket.close":
            raise WebSocketClosed(message.get("code", 1000))
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def close(self, code: int = 1000) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code})
