"""Calling an ASGI application without a socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from tests.benchmarks import workload

# ASGI messages and scopes are open dictionaries by specification.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def scope(path: str, body: bytes) -> Scope:
    """Return the scope that uvicorn makes of the load generator's request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + workload.AUTH_KEY.encode()),
            (b"content-length", b"%d" % len(body)),
        ],
        "state": {},
    }


async def call(app: ASGIApp, path: str, body: bytes) -> tuple[int, bytes]:
    """Send one POST to `app`; return the status and the body of the answer."""
    status = 0
    parts: list[bytes] = []
    requests = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        for message in requests:
            return message
        await asyncio.Event().wait()  # the client stays connected for as long as anybody asks
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(scope(path, body), receive, send)
    return status, b"".join(parts)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """Start `app` by the lifespan protocol and stop it at the end.

    An application that does not know the protocol is used as it is, as uvicorn does; one that fails to start raises
    RuntimeError with its message.
    """
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    lifespan_scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(lifespan_scope, to_app.get, from_app.put))
    supported = await _tell(task, to_app, from_app, "startup")
    try:
        yield app
    finally:
        if supported:
            await _tell(task, to_app, from_app, "shutdown")
        await asyncio.gather(task, return_exceptions=True)


async def _tell(
    task: "asyncio.Future[None]", to_app: "asyncio.Queue[Message]", from_app: "asyncio.Queue[Message]", event: str
) -> bool:
    """Send one lifespan event; return whether the application answered it."""
    to_app.put_nowait({"type": f"lifespan.{event}"})
    answer = asyncio.ensure_future(from_app.get())
    await asyncio.wait((task, answer), return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        answer.cancel()
        return False
    message = answer.result()
    if message["type"].endswith(".failed"):
        raise RuntimeError(message.get("message", f"the application failed at {event}"))
    return True
