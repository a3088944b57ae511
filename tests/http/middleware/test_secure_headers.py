import pytest

from asgipipe import EndpointSpec
from asgipipe.http.middleware.secure_headers import CONTENT_SECURITY_POLICY
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.settings import EndpointMethod
from tests.http.wire import SECURE_HEADERS, Ask, ask_one, invoke

DEFAULTS = {
    "hsts": (b"strict-transport-security", b"max-age=31536000"),
    "xfo": (b"x-frame-options", b"DENY"),
    "content": (b"x-content-type-options", b"nosniff"),
    "csp": (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    "referrer": (b"referrer-policy", b"no-referrer"),
    "cache": (b"cache-control", b"no-store"),
    "permissions": (
        b"permissions-policy",
        (
            b"accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), "
            b"usb=()"
        ),
    ),
    "server": (b"server", b"asgipipe"),
}


def echo(x: int = 1) -> int:
    return x


def answering(headers: list[tuple[bytes, bytes]]) -> EndpointSpec:
    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [*headers, (b"content-length", b"0")]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    app: ASGIApp = endpoint
    return EndpointSpec(path="/mine", method=EndpointMethod.GET, handler=app, native=True)


def test_the_defaults() -> None:
    """Every answer carries these values, with no secret about versions in them."""
    reply = ask_one(echo, invoke())
    assert {name: reply.header(name) for name, _ in DEFAULTS.values()} == dict(DEFAULTS.values())


@pytest.mark.parametrize("field", DEFAULTS)
def test_each_header_can_be_left_out(field: str) -> None:
    """`false` leaves one out and the others in."""
    reply = ask_one(echo, invoke(), {"secure_headers": {field: False}})
    missing = {name for name in SECURE_HEADERS if reply.header(name) is None}
    assert missing == {DEFAULTS[field][0]}


@pytest.mark.parametrize("field", DEFAULTS)
def test_each_header_can_be_given(field: str) -> None:
    """A text is sent as it is, once."""
    reply = ask_one(echo, invoke(), {"secure_headers": {field: "of-mine; x=1"}})
    assert reply.all(DEFAULTS[field][0]) == [b"of-mine; x=1"]


@pytest.mark.parametrize("field", DEFAULTS)
def test_true_is_the_default(field: str) -> None:
    """`true` says what is so anyway."""
    reply = ask_one(echo, invoke(), {"secure_headers": {field: True}})
    assert reply.header(DEFAULTS[field][0]) == DEFAULTS[field][1]


def test_all_can_be_left_out() -> None:
    """Without the middleware only the request id is left."""
    reply = ask_one(echo, invoke(), {"include_default_middleware": ["CORS"]})
    assert [name for name in SECURE_HEADERS if reply.header(name) is not None] == [b"x-request-id"]


@pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control", b"CACHE-CONTROL"])
def test_the_applications_own_value_is_kept(name: bytes) -> None:
    """An endpoint that sets one of the headers itself has the last word, in whatever case it writes the name."""
    reply = ask_one(echo, Ask("GET", "/mine"), {"custom_endpoints": [answering([(name, b"max-age=60")])]})
    assert reply.header(b"cache-control") == b"max-age=60"
    assert all(len(reply.all(each)) == 1 for each in SECURE_HEADERS)


def test_a_header_given_twice_is_sent_once() -> None:
    """Of several values for one of our headers the last one counts."""
    own = [
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"X-Frame-Options", b"DENY"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
    ]
    reply = ask_one(echo, Ask("GET", "/mine"), {"custom_endpoints": [answering(own)]})
    assert reply.all(b"x-frame-options") == [b"DENY"]
    assert reply.all(b"set-cookie") == [b"a", b"b"]


def test_the_request_id_is_ours() -> None:
    """An endpoint cannot send another request id than the one in the log."""
    own = [(b"X-Request-ID", b"made-up")]
    asked = Ask("GET", "/mine", [(b"x-request-id", b"of-the-client")])
    reply = ask_one(echo, asked, {"custom_endpoints": [answering(own)]})
    assert reply.all(b"x-request-id") == [b"of-the-client"]
