"""Bearer keys (RFC 6750): every route needs one unless it is on the open list."""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

from asgipipe.errors import UnauthorizedError
from asgipipe.http.exchange import Exchange
from asgipipe.http.types import ASGIApp, Scope
from asgipipe.settings.keys import digest_in

BEARER_SUBPROTOCOL = "bearer."


class OpenList(Protocol):
    """Says what needs no key: an endpoint, or a file of the dashboard."""

    def is_open(self, scope: Scope, exchange: Exchange) -> bool: ...

    def file(self, scope: Scope, exchange: Exchange) -> ASGIApp | None: ...


class Auth:
    """Lets a request pass with one of `keys`, or when its route is open; everything else is refused.

    Only the method and the path decide what is open; keys, and digests of keys, are compared as bytes in constant time.
    """

    def __init__(self, *, keys: Sequence[str], open_list: OpenList) -> None:
        self._digests = tuple(digest for digest in map(digest_in, keys) if digest is not None)
        self._keys = tuple(key.encode() for key in keys if digest_in(key) is None)
        self._usual = b"Bearer " + self._keys[0] if self._keys else None
        self._open_list = open_list

    def check(self, scope: Scope, exchange: Exchange) -> None:
        header = exchange.headers.get(b"authorization", b"")
        if self._usual is not None and compare_digest(header, self._usual):
            return
        if header[:7].lower() == b"bearer " and self._is_known(header[7:].strip()):
            return
        if self._open_list.is_open(scope, exchange):
            exchange.let_in(scope)
            return
        if scope["type"] == "websocket":
            if self._is_known(_subprotocol_key(scope)):
                return
        else:
            # What lets the request in must be what answers it: the framework may have a route of its own at this path.
            exchange.file = self._open_list.file(scope, exchange)
            if exchange.file is not None:
                return
        raise UnauthorizedError

    def _is_known(self, candidate: bytes) -> bool:
        known = False
        for key in self._keys:  # all of them, so that the time says nothing about which one matched
            known |= compare_digest(candidate, key)
        if self._digests:
            presented = sha256(candidate).digest()
            for digest in self._digests:
                known |= compare_digest(presented, digest)
        return known


def _subprotocol_key(scope: Scope) -> bytes:
    """Browsers cannot set headers on a WebSocket: they send the key as the subprotocol `bearer.<base64url>`."""
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(BEARER_SUBPROTOCOL):
            encoded = protocol[len(BEARER_SUBPROTOCOL) :].rstrip("=")  # with or without padding
            try:
                return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                return b""
    return b""
