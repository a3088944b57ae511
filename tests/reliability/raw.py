"""HTTP over plain sockets: what no client library would send, and answers to the byte."""

import asyncio
import json
import re
import selectors
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.http.wire import SECURE_HEADERS
from tests.servers.command import PATIENCE

SECURE = SECURE_HEADERS
"""The headers that every answer of the application carries once."""


@dataclass(frozen=True)
class Answer:
    """One answer; header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: bytes) -> bytes | None:
        values = self.all(name)
        assert len(values) < 2, f"{name!r} was sent {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:  # whatever the test expects
        return json.loads(self.body)

    @property
    def retry_after(self) -> int:
        value = self.header(b"retry-after")
        assert value is not None, self
        return int(value)

    def is_problem(self) -> bool:
        return self.header(b"content-type") == b"application/problem+json" and self.json()["status"] == self.status

    def is_secured(self) -> bool:
        return all(len(self.all(name)) == 1 for name in SECURE)


def request(method: str = "GET", path: str = "/", *fields: str, body: bytes | None = None) -> bytes:
    """Return a request with a Host, and with a Content-Length when there is a body."""
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *fields, *length])
    return head.encode("latin-1") + b"\r\n\r\n" + (body or b"")


def invoke(body: object = b"{}", *fields: str, path: str = "/invoke") -> bytes:
    """Return a POST of `body` as JSON: bytes as they are, parameters otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps({"parameters": body}).encode()
    return request("POST", path, "Content-Type: application/json", *fields, body=raw)


def handshake(path: str, *fields: str) -> bytes:
    """Return the opening of a WebSocket."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    return request("GET", path, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *fields)


def head_of(raw: bytes) -> Answer:
    status, *fields = raw.split(b"\r\n")
    pairs = (field.partition(b":") for field in fields if field)
    return Answer(int(status.split()[1]), tuple((name.lower(), value.strip()) for name, _, value in pairs))


class Connection:
    """A connection to a server on this machine; `receive_buffer` is in bytes."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def pour(self, pieces: Iterable[bytes]) -> int:
        """Send `pieces` until the server closes; return how many bytes went out."""
        sent = 0
        with suppress(ConnectionError):
            for piece in pieces:
                self.socket.sendall(piece)
                sent += len(piece)
        return sent

    def answer(self, *, head: bool = False) -> Answer:
        """Return the next answer; `head` says that it has no body. Raises EOFError when the server closed instead."""
        found = self.head()
        if found.status == 100:
            return self.answer(head=head)
        if head or found.status in {204, 304}:
            return found
        if found.header(b"transfer-encoding") == b"chunked":
            return Answer(found.status, found.headers, self._chunks())
        return Answer(found.status, found.headers, self._exactly(int(found.header(b"content-length") or 0)))

    def head(self) -> Answer:
        """Return the next answer as far as its body. Raises EOFError when the server closed instead."""
        return head_of(self._take(self._until(b"\r\n\r\n")))

    def chunk(self) -> bytes:
        """Return the next chunk of a body; nothing at its end. Raises EOFError when the server closed instead."""
        size = int(self._take(self._until(b"\r\n")), 16)
        data = self._exactly(size)
        assert self._exactly(2) == b"\r\n"
        return data

    def ask(self, data: bytes, *, head: bool = False) -> Answer:
        self.send(data)
        return self.answer(head=head)

    def rest(self) -> bytes:
        """Return what comes until the server closes the connection."""
        with suppress(EOFError):
            while True:
                self._more()
        return self._take(len(self._received))

    def reset(self) -> None:
        """Close with a reset, as a client that was killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def _chunks(self) -> bytes:
        body = b""
        while chunk := self.chunk():
            body += chunk
        return body

    def _until(self, mark: bytes) -> int:
        while (found := self._received.find(mark)) < 0:
            self._more()
        return found + len(mark)

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _more(self) -> None:
        try:
            piece = self.socket.recv(1024 * 1024)
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise EOFError(f"the server closed the connection after {bytes(self._received[:200])!r}")
        self._received += piece


def ask(port: int, data: bytes, *, head: bool = False) -> Answer:
    """Send one request on a connection of its own."""
    with Connection(port) as connection:
        return connection.ask(data, head=head)


def first_answered(connections: Sequence[Connection], count: int) -> tuple[list[Connection], list[Connection]]:
    """Wait until `count` of `connections` can be read; return those, and the others."""
    readable: set[Connection] = set()
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while len(readable) < count:
            found = selector.select(PATIENCE)
            assert found, f"{len(readable)} of {count} were answered"
            for key, _ in found:
                readable.add(key.data)
                selector.unregister(key.fileobj)
    return [each for each in connections if each in readable], [each for each in connections if each not in readable]


_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


CUT, HALF_READ = b"", b"half read"
"""What a client of `Load` is given instead of a request: to leave without its answer, or within one that streams."""


class Load:
    """Many clients at once, each sending one request after the other; `statuses` counts the answers."""

    def __init__(self, port: int) -> None:
        self.statuses: dict[int, int] = {}
        self._port = port

    async def run(self, count: int, clients: int, make: Callable[[int], bytes]) -> None:
        """Send the requests `make(0)` to `make(count - 1)`; CUT and HALF_READ stand for connections cut short."""
        numbers = iter(range(count))
        await asyncio.gather(*(self._client(numbers, make) for _ in range(clients)))

    async def _client(self, numbers: Iterable[int], make: Callable[[int], bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for number in numbers:
            data = make(number)
            if data in {CUT, HALF_READ}:
                await self._cut_short(read=data == HALF_READ)
                continue
            writer.write(data)
            status, closed = await self._answer(reader)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if closed:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None:
            await reader.readexactly(int(length.group(1)))
        else:
            assert b"transfer-encoding: chunked" in head.lower(), head
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        return int(head[9:12]), b"connection: close" in head

    async def _cut_short(self, *, read: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(invoke({"number": 1}, path="/invoke?mode=stream" if read else "/invoke"))
        await writer.drain()
        if read:
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
