import pytest

from asgipipe import EndpointSpec
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.settings import EndpointMethod
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask, ask_one, invoke

OURS = b"https://app.example"
OTHER = b"https://evil.example"
FROM_OURS = (b"origin", OURS)
FROM_OTHER = (b"origin", OTHER)
CORS = {"cors": {"allow_origins": ["https://app.example", "http://localhost:3000"]}}
EXPOSED = b"x-request-id, location, retry-after, idempotent-replayed"


def double(x: int = 1) -> int:
    if x == 13:
        raise ValueError("unlucky")
    return 2 * x


def preflight(
    origin: bytes = OURS, method: bytes = b"POST", headers: bytes | None = b"content-type", path: str = "/invoke"
) -> Ask:
    given = [(b"origin", origin), (b"access-control-request-method", method)]
    return Ask("OPTIONS", path, given if headers is None else [*given, (b"access-control-request-headers", headers)])


def cors_headers(reply: Reply) -> dict[bytes, bytes]:
    return {name: value for name, value in reply.headers if name.startswith(b"access-control-")}


def test_an_allowed_origin_may_read_the_answer() -> None:
    """The origin is named, the useful headers are exposed, and caches are told that the answer depends on it."""
    reply = ask_one(double, invoke({}, FROM_OURS), CORS)
    assert cors_headers(reply) == {
        b"access-control-allow-origin": OURS,
        b"access-control-expose-headers": EXPOSED,
    }
    assert reply.header(b"vary") == b"Accept, Prefer, Origin"


@pytest.mark.parametrize(
    "origin", [OTHER, b"null", b"https://app.example.evil.example", b"https://app.example:444", b"\xff", b""]
)
def test_another_origin_gets_no_cors_header(origin: bytes) -> None:
    """The request is answered, since it is the browser that keeps the answer from the page, but with no CORS header."""
    reply = ask_one(double, invoke({}, (b"origin", origin)), CORS)
    assert reply.status == 200
    assert cors_headers(reply) == {}
    assert reply.header(b"vary") == b"Accept, Prefer, Origin"


def test_without_an_origin_there_is_no_cors_header() -> None:
    """A client that is no browser sees nothing of CORS, but caches are told."""
    reply = ask_one(double, Ask("GET", "/health"), CORS)
    assert cors_headers(reply) == {}
    assert reply.header(b"vary") == b"Origin"


@pytest.mark.parametrize("settings", [{}, {**CORS, "include_default_middleware": ["SECURE_HEADERS"]}])
def test_cors_can_be_off(settings: dict[str, object]) -> None:
    """With no origin configured, or without the middleware, there is no CORS header, and OPTIONS is like any method."""
    answer, refused = ask(double, settings, invoke({}, FROM_OURS), preflight())
    assert cors_headers(answer) == {}
    assert (refused.status, cors_headers(refused)) == (405, {})


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (Ask("GET", "/nothing", [FROM_OURS, (b"authorization", b"Bearer k")]), 404),
        (Ask("GET", "/invoke", [FROM_OURS, (b"authorization", b"Bearer k")]), 405),
        (Ask("GET", "/info", [FROM_OURS]), 401),
        (invoke(b"{", FROM_OURS, (b"authorization", b"Bearer k")), 400),
        (invoke({"parameters": {"x": 13}}, FROM_OURS, (b"authorization", b"Bearer k")), 500),
        (Ask("GET", "/broken", [FROM_OURS, (b"authorization", b"Bearer k")]), 500),
        (Ask("GET", "/health", [FROM_OURS, (b"content-length", b"x")]), 400),
    ],
)
def test_refusals_and_failures_have_cors_headers(asked: Ask, status: int) -> None:
    """A page can read why it was refused, whatever refused it."""

    def broken() -> None:
        raise ValueError("inside")

    settings = {
        **CORS,
        "auth_key": "k",
        "custom_endpoints": [EndpointSpec(path="/broken", method=EndpointMethod.GET, handler=broken)],
    }
    reply = ask_one(double, asked, settings)
    assert reply.status == status
    assert cors_headers(reply)[b"access-control-allow-origin"] == OURS


def test_a_preflight() -> None:
    """It needs no key and names what may be sent, with the security headers of every answer."""
    reply = ask_one(double, preflight(headers=b"Authorization, content-type"), {**CORS, "auth_key": "k"})
    assert (reply.status, reply.body) == (204, b"")
    assert cors_headers(reply) == {
        b"access-control-allow-origin": OURS,
        b"access-control-allow-methods": b"DELETE, GET, PATCH, POST, PUT",
        b"access-control-allow-headers": b"accept, accept-language, authorization, content-language, content-type, "
        b"idempotency-key, last-event-id, prefer, x-request-id",
        b"access-control-max-age": b"600",
    }
    assert reply.header(b"vary") == b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert all(len(reply.all(name)) == 1 for name in SECURE_HEADERS)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (preflight(OTHER), "cors.allow_origins"),
        (preflight(method=b"TRACE"), "cors.allow_methods"),
        (preflight(method=b"post"), "cors.allow_methods"),
        (preflight(headers=b"content-type, x-secret"), "cors.allow_headers"),
    ],
)
def test_a_refused_preflight_is_a_problem(asked: Ask, named: str) -> None:
    """What is not on a list is refused with the setting that would allow it, and without a CORS header."""
    reply = ask_one(double, asked, CORS)
    assert reply.status == 400
    assert named in reply.problem["detail"]
    assert cors_headers(reply) == {}


def test_the_lists_are_what_counts() -> None:
    """Methods and headers of the settings are allowed, those of the defaults are then not."""
    settings = {
        "cors": {"allow_origins": ["https://app.example"], "allow_methods": ["GET"], "allow_headers": ["X-Mine"]}
    }
    allowed, no_method, no_header = ask(
        double,
        settings,
        preflight(method=b"GET", headers=b"x-mine"),
        preflight(method=b"POST"),
        preflight(method=b"GET", headers=b"prefer"),
    )
    assert (allowed.status, no_method.status, no_header.status) == (204, 400, 400)


def test_everything_can_be_allowed() -> None:
    """A `*` allows any origin, method and header; nothing then depends on the origin."""
    settings = {"cors": {"allow_origins": ["*"], "allow_methods": ["*"], "allow_headers": ["*"]}}
    answer, allowed = ask(double, settings, invoke({}, FROM_OTHER), preflight(OTHER, b"TRACE", b"X-Any, x-more"))
    assert answer.header(b"access-control-allow-origin") == b"*"
    assert answer.header(b"vary") == b"Accept, Prefer"
    assert allowed.status == 204
    assert allowed.header(b"access-control-allow-origin") == b"*"
    assert allowed.header(b"access-control-allow-methods") == b"TRACE"
    names = (allowed.header(b"access-control-allow-headers") or b"").split(b", ")
    assert {b"x-any", b"x-more"} <= set(names)


@pytest.mark.parametrize(
    "asked", [preflight(OTHER, b"PO\x00ST"), preflight(OTHER, headers=b"a\xff"), preflight(OTHER, headers=b"a," * 4000)]
)
def test_nothing_strange_is_repeated(asked: Ask) -> None:
    """Also where everything is allowed, only names of a sane form and number are put into the answer."""
    reply = ask_one(double, asked, {"cors": {"allow_origins": ["*"], "allow_methods": ["*"], "allow_headers": ["*"]}})
    assert reply.status == 400


def test_credentials() -> None:
    """With `allow_credentials`, the allowed origin alone is told so."""
    settings = {"cors": {"allow_origins": ["https://app.example"], "allow_credentials": True}}
    ours, others, before = ask(double, settings, invoke({}, FROM_OURS), invoke({}, FROM_OTHER), preflight())
    assert ours.header(b"access-control-allow-credentials") == b"true"
    assert ours.header(b"access-control-allow-origin") == OURS
    assert before.header(b"access-control-allow-credentials") == b"true"
    assert cors_headers(others) == {}


def test_an_options_that_is_no_preflight() -> None:
    """Without Access-Control-Request-Method it is a method like others, here one that is not allowed."""
    reply = ask_one(double, Ask("OPTIONS", "/invoke", [FROM_OURS]), CORS)
    assert reply.status == 405
    assert reply.header(b"access-control-allow-origin") == OURS


def test_vary_of_the_application_is_kept() -> None:
    """What an endpoint says about caching stays, in whatever case it wrote the name."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Vary", b"Cookie"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    spec = EndpointSpec(path="/mine", method=EndpointMethod.GET, handler=endpoint, native=True)
    reply = ask_one(double, Ask("GET", "/mine", [FROM_OURS]), {**CORS, "custom_endpoints": [spec]})
    assert reply.status == 200
    assert reply.header(b"vary") == b"Cookie, Origin"
