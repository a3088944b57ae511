"""Requests to a deployment in this process, with full control over what a server would pass on."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp, Message, Scope
from tests.conftest import PATIENCE, lifespan
from tests.running import Settings

JSON = (b"content-type", b"application/json")

SECURE_HEADERS = (
    b"strict-transport-security",
    b"x-frame-options",
    b"x-content-type-options",
    b"content-security-policy",
    b"referrer-policy",
    b"cache-control",
    b"permissions-policy",
    b"server",
    b"x-request-id",
)


@dataclass(frozen=True)
class Reply:
    """What was answered; a WebSocket that is accepted or closed has the messages only."""

    messages: tuple[Message, ...]

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.messages[0].get("headers", ()))

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        last = self.messages[-1]
        return last["type"].endswith("response.body") and not last.get("more_body", False)

    def json(self) -> Any:  # whatever the test expects
        return json.loads(self.body)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: bytes) -> bytes | None:
        """Return the only header of this name; two of them are an error."""
        values = self.all(name)
        assert len(values) < 2, f"{name!r} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def problem(self) -> dict[str, Any]:
        """The members of a problem document, which this must be."""
        assert self.header(b"content-type") == b"application/problem+json", (self.status, self.body[:300])
        document: dict[str, Any] = self.json()
        assert {"type", "title", "status", "detail"} <= document.keys()
        assert document["status"] == self.status
        assert isinstance(document["detail"], str)
        return document


@dataclass(frozen=True)
class Ask:
    """One request. `chunks` replaces `body` and sends no content-length; `unfinished` leaves the body without its end;
    `scope` overrides members of the scope.
    """

    method: str = "GET"
    path: str = "/"
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    chunks: Sequence[bytes] | None = None
    unfinished: bool = False
    scope: Mapping[str, object] = field(default_factory=dict)


def invoke(body: object = None, *headers: tuple[bytes, bytes], path: str = "/invoke") -> Ask:
    """Return a POST of `body`: bytes as they are, None for no body at all, anything else as JSON."""
    if body is None:
        return Ask("POST", path, headers)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Ask("POST", path, (JSON, *headers), raw)


def http_scope(ask: Ask) -> Scope:
    path, _, query = ask.path.partition("?")
    names = {name for name, _ in ask.headers}
    headers = list(ask.headers)
    if b"host" not in names:
        headers.insert(0, (b"host", b"testserver"))
    if ask.chunks is None and b"content-length" not in names and ask.body:
        headers.append((b"content-length", b"%d" % len(ask.body)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 40000),
        "server": ("testserver", 80),
        "state": {},
        **ask.scope,
    }


def websocket_scope(ask: Ask, subprotocols: Iterable[str] = (), extensions: Iterable[str] = ()) -> Scope:
    scope = http_scope(ask)
    del scope["method"]
    return {
        **scope,
        "type": "websocket",
        "scheme": "ws",
        "subprotocols": list(subprotocols),
        "extensions": {name: {} for name in extensions},
    }


async def reply(app: ASGIApp, ask: Ask) -> Reply:
    """Send one request to a started application; after its body, `receive` waits for ever."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    chunks = [ask.body] if ask.chunks is None else list(ask.chunks)
    for index, chunk in enumerate(chunks):
        inbox.put_nowait(
            {"type": "http.request", "body": chunk, "more_body": ask.unfinished or index < len(chunks) - 1}
        )
    return await converse(app, http_scope(ask), inbox)


async def handshake(app: ASGIApp, scope: Scope) -> Reply:
    """Open a WebSocket; it is closed by its client as soon as it was answered."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})
    inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
    return await converse(app, scope, inbox)


async def converse(app: ASGIApp, scope: Scope, inbox: "asyncio.Queue[Message]") -> Reply:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, inbox.get, send), PATIENCE)
    assert sent, "nothing was answered"
    return Reply(tuple(sent))


def ask_app(app: ASGIApp, *asked: Ask) -> list[Reply]:
    """Start an application, send it the requests one after the other, stop it."""

    async def main() -> list[Reply]:
        async with lifespan(app):
            return [await reply(app, each) for each in asked]

    return asyncio.run(main())


def deployed(target: Callable[..., object] | object, settings: Settings | None = None) -> ASGIApp:
    """Return the application of a deployment that reads no environment."""
    app: ASGIApp = Deployment(target, settings, layers=()).asgi_app
    return app


def ask(target: object, settings: Settings | None, *asked: Ask) -> list[Reply]:
    return ask_app(deployed(target, settings), *asked)


def ask_one(target: object, asked: Ask, settings: Settings | None = None) -> Reply:
    return ask(target, settings, asked)[0]


async def until(condition: Callable[[], object]) -> None:
    """Give other tasks their turn until `condition()` is true; give up when that takes very long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # any condition, which nobody announces
            await asyncio.sleep(0.001)
