"""Limits on what a request may look like, checked before anything is done for it."""

from asgipipe.errors import BadRequestError, HeadersTooLargeError
from asgipipe.http.body import check_length
from asgipipe.http.exchange import Exchange
from asgipipe.http.types import HeaderList, Scope

# Two of these could mean different things to a proxy in front of us and to us (RFC 9112, sections 3.2 and 11.2).
_SINGLE = frozenset((b"host", b"authorization", b"content-type", b"content-length"))


class Limits:
    """Refuses heads that are too large (431), ambiguous (400), and bodies that say they are too large (413).

    Bodies are counted again while they are read, because chunked ones say nothing.
    """

    def __init__(self, *, max_header_count: int, max_header_size: int, max_body_size: int) -> None:
        self._max_count = max_header_count
        self._max_size = max_header_size
        self._max_body = max_body_size

    def check(self, scope: Scope, exchange: Exchange) -> None:
        fields: HeaderList = scope["headers"]
        headers = exchange.headers
        if len(fields) > self._max_count:
            raise HeadersTooLargeError(f"A request may have {self._max_count} header fields at most.")
        size = len(scope["path"]) + len(scope["query_string"])
        if len(headers) == len(fields):
            size += len(b"".join(headers)) + len(b"".join(headers.values()))
        else:
            size += sum(len(name) + len(value) for name, value in fields)
            _check_doubles(fields)
        if size > self._max_size:
            raise HeadersTooLargeError(f"The head of a request may have {self._max_size} bytes at most.")
        if b"host" not in headers and scope.get("http_version") == "1.1" and scope["type"] == "http":
            raise BadRequestError("A request needs a Host header.")  # RFC 9112, section 3.2
        length = headers.get(b"content-length")
        if length is not None:
            check_length(length, self._max_body)


def _check_doubles(fields: HeaderList) -> None:
    seen = set()
    for name, _ in fields:
        if name in seen and name in _SINGLE:
            raise BadRequestError(f"The header {name.decode('ascii')} was sent more than once.")
        seen.add(name)
