"""A client over real sockets: HTTP/1.1 with h11, which sends a target as it is given, and WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from asgipipe.testing.client import (
    PATIENCE,
    SUBPROTOCOLS,
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


class SocketClient(Client):
    """Opens a connection for each request."""

    def __init__(self, port: int, prefix: str = "", always: Headers | None = None) -> None:
        super().__init__(prefix, always)
        self._port = port

    async def _send(self, ask: Ask) -> Answer:
        async with self._stream(ask) as exchange:
            body, complete = await whole(exchange)
            return Answer(exchange.status, exchange.headers, body, complete)

    @asynccontextmanager
    async def _stream(self, ask: Ask) -> AsyncIterator["_Exchange"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        exchange = _Exchange(reader, writer)
        try:
            await exchange.begin(ask)
            yield exchange
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @asynccontextmanager
    async def _websocket(self, ask: Ask) -> AsyncIterator["_Socket"]:
        url = f"ws://127.0.0.1:{self._port}{ask.target}"
        headers = {name: value for name, value in ask.headers.items() if name.lower() != SUBPROTOCOLS}
        names = [Subprotocol(name) for name in offered(ask)] or None
        opening = connect(url, additional_headers=headers, subprotocols=names, proxy=None, open_timeout=PATIENCE)
        try:
            connection = await opening
        except InvalidStatus as refused:
            raise WebSocketRefused(refused.response.status_code) from None
        async with connection:
            yield _Socket(connection)


class _Exchange:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = h11.Connection(h11.CLIENT)
        self._start: h11.Response | None = None

    @property
    def _head(self) -> h11.Response:
        if self._start is None:
            raise AssertionError("the answer has not begun")
        return self._start

    @property
    def status(self) -> int:
        return self._head.status_code

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head.headers)

    async def begin(self, ask: Ask) -> None:
        """Send the request and wait for the head of its answer."""
        request = h11.Request(method=ask.method, target=ask.target, headers=[*ask.fields(), (b"connection", b"close")])
        # A server may answer, and close, before it has read all of the body.
        with suppress(ConnectionError):
            await self._write(request)
            for chunk in [ask.body] if ask.chunks is None else ask.chunks:
                if chunk:
                    await self._write(h11.Data(data=chunk))
            await self._write(h11.EndOfMessage())
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise AssertionError(f"the server did not answer: {event!r}")
        self._start = event

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._connection.send(event) or b"")
        await self._writer.drain()

    async def _next(self) -> h11.Event:
        """Return the next event. Raises BrokenOffError when the connection ends before the answer does."""
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                raise BrokenOffError(str(error)) from None
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._read())
            elif isinstance(event, h11.ConnectionClosed):
                raise BrokenOffError("the server closed the connection")
            elif isinstance(event, h11.Event):
                return event

    async def _read(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read(65_536)
            except ConnectionError:
                return b""


class _Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    async def send(self, message: str | bytes) -> None:
        await self._connection.send(message)

    async def receive(self) -> str | bytes:
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._connection.recv()
            except ConnectionClosed:
                raise WebSocketClosed(self._connection.close_code or 1006) from None

    async def close(self, code: int = 1000) -> None:
        await self._connection.close(code)
