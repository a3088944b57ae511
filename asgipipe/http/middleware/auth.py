"""Bearer keys (RFC 6750): every route needs one unless it is on the open list."""

import base64
import binascii
from collections.abc import Callable, Sequence
from hmac import compare_digest

from asgipipe.errors import UnauthorizedError
from asgipipe.http.exchange import Exchange, exchange_of
from asgipipe.http.types import ASGIApp, Receive, Scope, Send

IsOpen = Callable[[Scope, Exchange], bool]
_SUBPROTOCOL = "bearer."


class AuthMiddleware:
    """Lets a request pass with one of `keys`, or when `is_open` says that its route needs none.

    Only the method and the path decide what is open; keys are compared as bytes in constant time.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], is_open: IsOpen) -> None:
        self.app = app
        self._keys = tuple(key.encode() for key in keys)
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        header = exchange.headers.get(b"authorization", b"")
        if header[:7].lower() == b"bearer " and self._is_known(header[7:].strip()):
            await self.app(scope, receive, send)
        elif self._is_open(scope, exchange):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket" and self._is_known(_subprotocol_key(scope)):
            await self.app(scope, receive, send)
        else:
            raise UnauthorizedError

    def _is_known(self, candidate: bytes) -> bool:
        known = False
        for key in self._keys:  # all of them, so that the time says nothing about which one matched
            known |= compare_digest(candidate, key)
        return known


def _subprotocol_key(scope: Scope) -> bytes:
    """Browsers cannot set headers on a WebSocket: they send the key as the subprotocol `bearer.<base64url>`."""
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(_SUBPROTOCOL):
            encoded = protocol[len(_SUBPROTOCOL) :]
            try:
                return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                return b""
    return b""
