"""What every client of the suite offers, in process and over sockets alike."""

import asyncio
import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

PATIENCE = 20.0
"""Seconds until something that normally takes a fraction of one is given up."""


def soon(seconds: float) -> float:
    """Return within how many seconds happens what takes a machine that does nothing else less than `seconds`."""
    return seconds * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))


def patience() -> asyncio.Timeout:
    """Return a context in which at most PATIENCE may pass."""
    return asyncio.timeout(PATIENCE)


Headers = Mapping[str, str]

JSON = {"content-type": "application/json"}
_OF_THE_SERVER = frozenset({"date", "connection", "transfer-encoding"})
SUBPROTOCOLS = "sec-websocket-protocol"


@dataclass(frozen=True)
class Answer:
    """One answer; names of headers are as they were sent, `complete` says whether it came to its end."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    complete: bool = True

    def __str__(self) -> str:
        end = "" if self.complete else " and then broke off"
        return f"{self.status} {dict(self.headers)} {self.body[:500]!r}{end}"

    __repr__ = __str__

    @property
    def names(self) -> list[str]:
        """The names of all headers, in lower case, but for those of the server's own."""
        return [key.lower() for key, _ in self.headers if key.lower() not in _OF_THE_SERVER]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str | None:
        """Return the only header of this name; two of them are an error."""
        values = self.all(name)
        assert len(values) < 2, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:  # whatever the scenario expects
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        """The members of a problem document (RFC 9457), which this must be."""
        assert self.header("content-type") == "application/problem+json", self
        document: dict[str, Any] = self.json()
        assert {"type", "title", "status", "detail"} <= document.keys(), document
        assert document["status"] == self.status, document
        return document


@dataclass(frozen=True)
class Ask:
    """One request. `target` is percent-encoded, as it is on the wire; `chunks` replaces `body` and has no length."""

    method: str = "GET"
    target: str = "/"
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    chunks: Sequence[bytes] | None = None

    def below(self, prefix: str, headers: Headers) -> "Ask":
        return Ask(self.method, prefix + self.target, {**headers, **self.headers}, self.body, self.chunks)

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the headers as they go out: with a host, and with what frames the body."""
        given = {name.lower(): value for name, value in self.headers.items()}
        framing: dict[str, str] = {}
        if self.chunks is not None:
            framing = {"transfer-encoding": "chunked"}
        elif self.body:
            framing = {"content-length": str(len(self.body))}
        named = {"host": "testserver", **framing, **given}
        return [(name.encode(), value.encode("latin-1")) for name, value in named.items()]


def invoke(parameters: Mapping[str, object] | None = None, *, target: str = "/invoke", **members: object) -> Ask:
    """Return a POST of `parameters`, and further members of the body, as JSON."""
    given = {} if parameters is None else {"parameters": parameters}
    return Ask("POST", target, JSON, json.dumps({**given, **members}).encode())


class Stream(Protocol):
    """An answer that is read piece by piece; leaving its context early is going away."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield pieces as they come. Raises BrokenOffError when the answer ends before its end."""
        ...


class WebSocket(Protocol):
    @property
    def subprotocol(self) -> str | None:
        """The one that was agreed on."""
        ...

    async def send(self, message: str | bytes) -> None: ...

    async def receive(self) -> str | bytes:
        """Return the next message. Raises WebSocketClosed."""
        ...

    async def close(self, code: int = 1000) -> None: ...


class BrokenOffError(Exception):
    """The answer ended before its end."""


class WebSocketRefused(Exception):  # noqa: N818  # it is an answer, not an error
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class WebSocketClosed(Exception):  # noqa: N818  # see above
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Client(ABC):
    """Asks one deployment, in one form, on one server; `prefix` is where it is, `always` goes out with each request."""

    def __init__(self, prefix: str = "", always: Headers | None = None) -> None:
        self.prefix = prefix
        self.always = dict(always or {})

    async def send(self, ask: Ask) -> Answer:
        async with patience():
            return await self._send(ask.below(self.prefix, self.always))

    async def get(self, target: str, **headers: str) -> Answer:
        """Send a GET; `accept_language="de"` is the header accept-language."""
        return await self.send(Ask("GET", target, named(headers)))

    def stream(self, ask: Ask) -> AbstractAsyncContextManager[Stream]:
        return self._stream(ask.below(self.prefix, self.always))

    def websocket(self, target: str, headers: Headers | None = None) -> AbstractAsyncContextManager[WebSocket]:
        """Open a WebSocket. Entering raises WebSocketRefused when the handshake is refused.

        Subprotocols are offered in the header `sec-websocket-protocol`, separated by commas.
        """
        return self._websocket(Ask("GET", self.prefix + target, {**self.always, **(headers or {})}))

    @abstractmethod
    async def _send(self, ask: Ask) -> Answer: ...

    @abstractmethod
    def _stream(self, ask: Ask) -> AbstractAsyncContextManager[Stream]: ...

    @abstractmethod
    def _websocket(self, ask: Ask) -> AbstractAsyncContextManager[WebSocket]: ...


def offered(ask: Ask) -> list[str]:
    """Return the subprotocols that a handshake offers."""
    fields = {name.lower(): value for name, value in ask.headers.items()}
    return [each.strip() for each in fields.get(SUBPROTOCOLS, "").split(",") if each.strip()]


def named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def whole(stream: Stream) -> tuple[bytes, bool]:
    """Return the body of an answer, and whether it came to its end."""
    body = bytearray()
    try:
        async for piece in stream:
            body += piece
    except BrokenOffError:
        return bytes(body), False
    return bytes(body), True
