"""The request that Django's code sees, and its way from and to ASGI."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import IO

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, RawPostDataException
from django.urls import ResolverMatch

from asgipipe.http import bridge
from asgipipe.http.exchange import exchange_of
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe_django.response import content_of, response_of

KEY = "asgipipe.django"
_CHUNK = 64 * 1024


class Request(ASGIRequest):
    """Django's request, with the path below the deployment's mount point and the deployment's own limit of the body."""

    def __init__(self, scope: Scope, body_file: IO[bytes]) -> None:
        super().__init__({**scope, "query_string": _text(scope["query_string"])}, body_file)
        self.scope = scope
        # The project's FORCE_SCRIPT_NAME is for the project's own paths; the scope's is complete already.
        self.script_name = scope.get("root_path", "").rstrip("/")
        self.path_info = exchange_of(scope).path
        self.META |= {"SCRIPT_NAME": self.script_name, "PATH_INFO": self.path_info}

    _read_started: bool

    @property
    def body(self) -> bytes:
        if not hasattr(self, "_body"):
            if self._read_started:
                raise RawPostDataException("The body was read from the request's stream already.")
            self._body = self.read()
            self._stream.close()
            self._stream = BytesIO(self._body)
        return self._body


def _text(query: bytes) -> str:
    try:
        return query.decode()
    except UnicodeDecodeError:
        return query.decode("latin-1")


class Passage:
    """A request's way through Django; `ended` returns when every application that it was handed to has ended.

    Django ends its own part as soon as the client goes away, while an application of ours may go on. `match` is what
    answers, where that is known before.
    """

    def __init__(self, match: ResolverMatch | None = None) -> None:
        self.match = match
        self.request: HttpRequest | None = None
        self.body: IO[bytes] | None = None
        self._inside = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        self._idle.clear()
        try:
            await app(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._idle.set()

    async def ended(self) -> None:
        await self._idle.wait()


async def hand_over(request: HttpRequest, app: ASGIApp, **members: object) -> HttpResponseBase:
    """Return what an application answers to `request`; `members` are put into the scope.

    Raises what the application raises before it answers.
    """
    assert isinstance(request, Request)
    passage: Passage = request.scope[KEY]

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await passage.through(app, scope, receive, send)

    answer = await bridge.answer(inside, {**request.scope, **members}, body_of(request))
    return response_of(answer.status, answer.headers, content_of(answer))


def body_of(request: HttpRequest) -> Receive:
    """Return what gives a request's body piece by piece; that of ASGI has been spooled by Django already."""
    read: Callable[[int], bytes] = request.read

    async def receive() -> Message:
        piece = read(_CHUNK)
        return {"type": "http.request", "body": piece, "more_body": len(piece) == _CHUNK}

    return receive
