"""Which pages may open WebSockets: browsers apply CORS to requests, but to no handshake (RFC 6455, section 10.2)."""

from collections.abc import Iterable, Mapping

from asgipipe.errors import ForbiddenError
from asgipipe.http.exchange import Exchange
from asgipipe.http.types import Scope

_SECURE = ("wss", "https")


class Origins:
    """Refuses WebSocket handshakes of pages from anywhere but the service's own origin and `allowed`.

    A client that sends no Origin is no browser. The service's own origin is made of the scope's scheme and the Host
    header: what a proxy in front says of them counts as far as the server takes its word.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self._any = b"*" in self._allowed

    def check(self, scope: Scope, exchange: Exchange) -> None:
        origin = exchange.headers.get(b"origin")
        if origin is None or self._any or origin in self._allowed or origin.lower() == _own(scope, exchange.headers):
            return
        raise ForbiddenError("Pages of this origin may not connect; cors.allow_origins names those that may.")


def _own(scope: Scope, headers: Mapping[bytes, bytes]) -> bytes:
    """Return the origin of the pages that the service itself serves; browsers leave a default port out of both."""
    scheme, port = (b"https", b":443") if scope.get("scheme") in _SECURE else (b"http", b":80")
    return scheme + b"://" + headers.get(b"host", b"").lower().removesuffix(port)
