"""Requests that come through WSGI, which is synchronous, for an application that is not."""

import asyncio
import queue
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from wsgiref.util import is_hop_by_hop

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponseBase

from asgipipe.http import bridge
from asgipipe.http.types import ASGIApp, Message, Scope
from asgipipe_django.background import BackgroundLoop
from asgipipe_django.response import content_of, response_of

T = TypeVar("T")
_CHUNK = 64 * 1024
_END = b""


def answer(request: WSGIRequest, app: ASGIApp, scope: Scope, background: BackgroundLoop) -> HttpResponseBase:
    """Run `app` on the background loop, and return its answer."""
    body = _Body(request, background)
    answered = body.serve(background.submit(bridge.answer(app, scope, body.receive)))
    # PEP 3333 forbids them to applications, and wsgiref breaks off at one.
    headers = [(name, value) for name, value in answered.headers if not is_hop_by_hop(name.decode("latin-1"))]
    content = content_of(answered)
    return response_of(
        answered.status, headers, content if isinstance(content, bytes) else _Pieces(content, body, background)
    )


def scope_of(request: WSGIRequest, path: str, root_path: str) -> Scope:
    """Return the ASGI scope of a WSGI request; `path` is complete."""
    environ = request.environ
    port = environ.get("SERVER_PORT")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        "method": request.method,
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": path,
        "raw_path": path.encode(),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root_path,
        "headers": list(_headers(environ)),
        "client": (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0)),
        "server": (environ.get("SERVER_NAME", ""), int(port) if port else None),
        "state": {},
    }


def _headers(environ: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    if "HTTP_HOST" not in environ:  # Django's test client sends none, and lets the server's name stand for it
        yield b"host", environ.get("SERVER_NAME", "").encode("latin-1")
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            field = name[5:]
        elif name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            field = name
        else:
            continue
        yield field.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")


class _Body:
    """Reads a request's body in the thread that the server has given it, when the application asks for more."""

    def __init__(self, request: WSGIRequest, background: BackgroundLoop) -> None:
        chunked = "HTTP_TRANSFER_ENCODING" in request.environ and request.environ.get("wsgi.input_terminated")
        # Django takes a body without a length for an empty one.
        untouched = chunked and not (hasattr(request, "_body") or getattr(request, "_read_started", False))
        self._read = request.environ["wsgi.input"].read if untouched else request.read
        self._loop = background.loop
        self._wanted: queue.SimpleQueue[Future[Message] | None] = queue.SimpleQueue()

    async def receive(self) -> Message:
        order: Future[Message] = Future()
        self._wanted.put(order)
        return await asyncio.wrap_future(order)

    def serve(self, work: "Future[T]") -> T:
        """Wait for `work` on the background loop, and read for it meanwhile."""
        work.add_done_callback(lambda _: self._wanted.put(None))
        while (order := self._wanted.get()) is not None:
            try:
                piece = self._read(_CHUNK)
            except Exception as error:  # boundary: the server's stream; Django makes several exceptions of it
                order.set_exception(error)
            else:
                order.set_result({"type": "http.request", "body": piece, "more_body": piece != _END})
        return work.result()


class _Pieces:
    """A synchronous iterator over the pieces of an answer; Django would collect an asynchronous one first."""

    def __init__(self, chunks: bridge.Chunks, body: _Body, background: BackgroundLoop) -> None:
        self._chunks = chunks
        self._body = body
        self._background = background

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self._body.serve(self._background.submit(_next(self._chunks)))
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        self._chunks.close()


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(chunks, None)
