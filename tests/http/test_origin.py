import pytest

from asgipipe.errors import ForbiddenError
from asgipipe.http.exchange import NO_DEFAULTS, Exchange
from asgipipe.http.origin import Origins
from asgipipe.http.types import Message
from tests.http.wire import Ask, ask_one, websocket_scope


def passes(origin: bytes | None, *allowed: str, host: bytes | None = b"a.example", scheme: str = "ws") -> bool:
    given = {b"origin": origin, b"host": host}
    headers = {name: value for name, value in given.items() if value is not None}
    scope = {**websocket_scope(Ask()), "scheme": scheme}
    try:
        Origins(allowed).check(scope, Exchange(_send, "/", headers, b"id", NO_DEFAULTS))
    except ForbiddenError:
        return False
    return True


async def _send(message: Message) -> None:
    raise AssertionError(message)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (b"http://a.example", b"a.example", "ws"),
        (b"http://a.example", b"A.Example:80", "ws"),
        (b"http://a.example:8000", b"a.example:8000", "ws"),
        (b"https://a.example", b"a.example", "wss"),
        (b"https://a.example", b"a.example:443", "https"),
        (b"http://[::1]:8080", b"[::1]:8080", "ws"),
        (b"HTTP://A.example", b"a.example", "ws"),
    ],
)
def test_pages_of_the_service_itself_may_connect(origin: bytes, host: bytes, scheme: str) -> None:
    """Its origin is made of the scheme and the host that the client used, default ports left out."""
    assert passes(origin, host=host, scheme=scheme)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (b"http://b.example", b"a.example", "ws"),
        (b"https://a.example", b"a.example", "ws"),
        (b"http://a.example", b"a.example", "wss"),
        (b"http://a.example:81", b"a.example", "ws"),
        (b"http://a.example", b"a.example:8000", "ws"),
        (b"http://a.example.evil", b"a.example", "ws"),
        (b"http://evil.a.example", b"a.example", "ws"),
        (b"null", b"a.example", "ws"),
        (b"", b"a.example", "ws"),
        (b"http://a.example", None, "ws"),
        (b"http://a.example/", b"a.example", "ws"),
        (b"\xff", b"\xff", "ws"),
    ],
)
def test_pages_of_others_may_not(origin: bytes, host: bytes | None, scheme: str) -> None:
    """Another scheme, host or port is another origin, and so is what is no origin at all."""
    assert not passes(origin, host=host, scheme=scheme)


def test_pages_of_allowed_origins_may() -> None:
    """Those of `cors.allow_origins`, exactly as CORS compares them, or any with a `*`."""
    assert passes(b"https://app.example", "https://other.example", "https://app.example")
    assert not passes(b"https://app.example:8443", "https://app.example")
    assert passes(b"null", "*")


def test_who_sends_no_origin_is_no_browser() -> None:
    """And passes."""
    assert passes(None)


def test_requests_are_left_to_cors() -> None:
    """An HTTP request of a page from anywhere passes."""
    assert ask_one(len, Ask(path="/health", headers=[(b"origin", b"http://b.example")])).status == 200
