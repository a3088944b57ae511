"""CORS for configured origins (https://fetch.spec.whatwg.org/#http-cors-protocol), in front of any framework.

Starlette's middleware refuses a preflight with plain text, and gives its CORS headers to answers for origins that are
not on the list as well.
"""

import re
from collections.abc import Awaitable, Sequence

from asgipipe.errors import BadRequestError
from asgipipe.http.exchange import exchange_of
from asgipipe.http.problems import send_problem
from asgipipe.http.types import ASGIApp, HeaderList, Message, Receive, Scope, Send
from asgipipe.settings import CORSConfig

EXPOSED = ("x-request-id", "location", "retry-after", "idempotent-replayed")
MAX_AGE = 600
"""Seconds for which browsers may remember the answer to a preflight."""

# Browsers let pages send these anyhow; only some values of theirs need a preflight.
_SAFELISTED = ("accept", "accept-language", "content-language", "content-type")
_TOKENS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}")  # names of RFC 9110, separated by commas
_WANTED_METHOD = b"access-control-request-method"
_WANTED_HEADERS = b"access-control-request-headers"


class CORSMiddleware:
    """Lets pages of the configured origins read the answers of `app`, refusals included, and answers preflights.

    Other origins get no CORS header at all, and their preflights are refused.
    """

    def __init__(self, app: ASGIApp, config: CORSConfig) -> None:
        self.app = app
        self._origins = frozenset(origin.encode() for origin in config.allow_origins)
        self._any_origin = "*" in config.allow_origins
        self._methods = frozenset(method.encode() for method in config.allow_methods)
        self._headers = frozenset(name.encode() for name in (*config.allow_headers, *_SAFELISTED))
        self._credentials = [(b"access-control-allow-credentials", b"true")] if config.allow_credentials else []
        self._exposed = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = exchange_of(scope).headers
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] == "OPTIONS" and _WANTED_METHOD in headers:
            await self._preflight(send, origin, headers[_WANTED_METHOD], headers.get(_WANTED_HEADERS, b""))
            return
        added = [] if origin is None or not self._allows(origin) else [*self._allowed(origin), self._exposed]

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._varying(message.get("headers") or ()), *added]
            return send(message)

        await self.app(scope, receive, send_with_headers)

    async def _preflight(self, send: Send, origin: bytes, method: bytes, headers: bytes) -> None:
        refusal = self._refusal(origin, method, headers)
        if refusal is not None:
            await send_problem(send, refusal)
            return
        asked = {name.strip().lower() for name in headers.split(b",")} - {b""}
        answer = [
            *self._allowed(origin),
            (b"access-control-allow-methods", b", ".join(sorted({method, *self._methods} - {b"*"}))),
            (b"access-control-allow-headers", b", ".join(sorted({*asked, *self._headers} - {b"*"}))),
            (b"access-control-max-age", b"%d" % MAX_AGE),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": answer})
        await send({"type": "http.response.body", "body": b""})

    def _refusal(self, origin: bytes, method: bytes, headers: bytes) -> BadRequestError | None:
        asked = {name.strip().lower() for name in headers.split(b",")} - {b""}
        if not self._allows(origin):
            return BadRequestError("Pages of this origin may not call; cors.allow_origins names those that may.")
        if not _TOKENS.fullmatch(method) or not (method in self._methods or b"*" in self._methods):
            return BadRequestError("Pages may not use this method; cors.allow_methods names those they may.")
        if asked and (not _TOKENS.fullmatch(headers) or not (asked <= self._headers or b"*" in self._headers)):
            return BadRequestError("Pages may not send one of these headers; cors.allow_headers names those they may.")
        return None

    def _allows(self, origin: bytes) -> bool:
        return self._any_origin or origin in self._origins

    def _allowed(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"access-control-allow-origin", b"*" if self._any_origin else origin), *self._credentials]

    def _varying(self, headers: HeaderList) -> Sequence[tuple[bytes, bytes]]:
        """Answers to other origins differ, which caches have to know; with `*` they are all the same."""
        if self._any_origin:
            return headers
        given = [value for name, value in headers if name.lower() == b"vary"]
        kept = [(name, value) for name, value in headers if name.lower() != b"vary"]
        return [*kept, (b"vary", b", ".join((*given, b"Origin")))]
