import asyncio
import base64
from collections.abc import Sequence

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgipipe import EndpointSpec
from asgipipe.http.types import Scope
from asgipipe.settings import EndpointMethod
from asgipipe.settings.keys import digest_of
from tests.conftest import lifespan
from tests.http.wire import Ask, Reply, ask, ask_one, deployed, handshake, invoke, websocket_scope

KEY = "first-key"
KEYS = [KEY, "second~key"]


def echo(x: int = 1) -> int:
    return x


def statuses(settings: dict[str, object], *values: bytes | None) -> list[int]:
    return [
        ask_one(echo, invoke(None, *([with_key(value)] if value is not None else [])), settings).status
        for value in values
    ]


def with_key(value: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", value)


UNAUTHORIZED = {
    "type": "urn:asgipipe:unauthorized",
    "title": "Unauthorized",
    "status": 401,
    "detail": "A valid key is required: send it as 'Authorization: Bearer <key>'.",
}


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer first-key",
        b"Bearer second~key",
        b"bearer first-key",
        b"BEARER first-key",
        b"Bearer   first-key ",
        b"bEaReR second~key",
    ],
)
def test_every_key_opens(value: bytes) -> None:
    """Each of several keys is right, and the scheme's case does not matter (RFC 9110, section 11.1)."""
    assert ask_one(echo, invoke(None, with_key(value)), {"auth_key": KEYS}).status == 200


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer first-key2",
        b"Bearer first-ke",
        b"Bearer FIRST-KEY",
        b"Bearer first-key second~key",
        b"Bearer first-key,second~key",
        b"Bearerfirst-key",
        b"Basic first-key",
        b"Token first-key",
        b"first-key",
        b"Bearer \xff\xfe\x00",
        "Bearer ключ".encode(),
        b"Bearer " + b"x" * 20_000,
    ],
)
def test_everything_else_does_not(value: bytes | None) -> None:
    """A key that is missing, wrong, not ASCII or of another scheme is a 401 that says how to send one."""
    reply = ask_one(echo, invoke(None, *([] if value is None else [with_key(value)])), {"auth_key": KEYS})
    assert reply.problem == UNAUTHORIZED
    assert reply.header(b"www-authenticate") == b"Bearer"


def test_two_authorizations_are_refused() -> None:
    """Which of the two counts would be anybody's guess."""
    reply = ask_one(echo, invoke(None, with_key(b"Bearer wrong"), with_key(b"Bearer first-key")), {"auth_key": KEY})
    assert reply.status == 400


def test_the_key_is_not_taken_from_anywhere_else() -> None:
    """Queries end up in logs, and cookies are sent by browsers unasked."""
    asked = [
        invoke(path=f"/invoke?key={KEY}&access_token={KEY}"),
        invoke(None, (b"cookie", KEY.encode()), (b"x-api-key", KEY.encode())),
        invoke(None, (b"sec-websocket-protocol", b"bearer." + base64.urlsafe_b64encode(KEY.encode()))),
    ]
    assert [reply.status for reply in ask(echo, {"auth_key": KEY}, *asked)] == [401, 401, 401]


@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/redoc", "/openapi.json", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_open_list(path: str, method: str) -> None:
    """Probes, documents and dashboard files need no key, and a wrong one does no harm."""
    asked = [Ask(method, path), Ask(method, path, [with_key(b"Bearer wrong")])]
    assert [reply.status for reply in ask(echo, {"auth_key": KEY}, *asked)] == [200, 200]


@pytest.mark.parametrize(
    "path", ["/invoke", "/info", "/metrics", "/status", "/nothing", "/health/", "//health", "/HEALTH", "/health%2f"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "BREW"])
def test_everything_else_is_closed(path: str, method: str) -> None:
    """What is served, what is not, and what looks like an open path are 401 alike, so that nothing can be found out."""
    reply = ask_one(echo, Ask(method, path), {"auth_key": KEY})
    assert reply.status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_an_open_path_is_open_for_reading_only(method: str) -> None:
    """Another method than the open endpoint's is no open endpoint."""
    assert ask_one(echo, Ask(method, "/health"), {"auth_key": KEY}).status == 401


def test_with_a_key_the_truth_is_told() -> None:
    """Unknown paths are 404 and wrong methods 405 for those who may know."""
    right = with_key(b"Bearer first-key")
    asked = [Ask("GET", "/nothing", [right]), Ask("GET", "/invoke", [right]), Ask("POST", "/health", [right])]
    assert [reply.status for reply in ask(echo, {"auth_key": KEY}, *asked)] == [404, 405, 405]


def test_without_keys_everything_is_open() -> None:
    """No key is configured, so none is asked for, and a key that is sent does no harm."""
    asked = [invoke(), invoke(None, with_key(b"Bearer anything")), Ask("GET", "/nothing")]
    assert [reply.status for reply in ask(echo, {}, *asked)] == [200, 200, 404]


def test_moved_open_paths_stay_open() -> None:
    """The open list follows the settings, and the default path is then nothing special."""
    settings = {"auth_key": KEY, "health_url_path": "/alive", "api_url_path": "/v1"}
    asked = [Ask("GET", path) for path in ("/v1/alive", "/alive", "/health", "/v1/health")]
    assert [reply.status for reply in ask(echo, settings, *asked)] == [200, 401, 401, 401]


def test_a_custom_endpoint_says_whether_it_is_open() -> None:
    """It needs the key unless it says `auth_required=False`; HEAD goes with GET."""

    def mine() -> str:
        return "mine"

    specs = [
        EndpointSpec(path="/closed", method=EndpointMethod.GET, handler=mine),
        EndpointSpec(path="/open", method=EndpointMethod.GET, handler=mine, auth_required=False),
        EndpointSpec(path="/open/{name}", method=EndpointMethod.GET, handler=_named, auth_required=False),
    ]
    settings = {"auth_key": KEY, "custom_endpoints": specs}
    asked = [
        *(Ask(method, path) for path in ("/closed", "/open", "/open/a") for method in ("GET", "HEAD", "POST")),
        Ask("GET", "/open/a/b"),
        Ask("GET", "/open/"),
    ]
    statuses = [reply.status for reply in ask(echo, settings, *asked)]
    assert statuses == [401, 401, 401, 200, 200, 401, 200, 200, 401, 401, 401]


def _named(name: str) -> str:
    return name


# WebSocket handshakes

ACCEPT = "websocket.accept"


def shake(settings: dict[str, object], *scopes: Scope) -> list[Reply]:
    async def accepting(websocket: WebSocket) -> None:
        subprotocols = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=subprotocols[0] if subprotocols else None)

    native = EndpointSpec(path="/ws", method=EndpointMethod.GET, handler=WebSocketRoute("/ws", accepting), native=True)

    async def main() -> list[Reply]:
        app = deployed(echo, {**settings, "custom_endpoints": [native]})
        async with lifespan(app):
            return [await handshake(app, scope) for scope in scopes]

    return asyncio.run(main())


def encoded(key: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ([with_key(b"Bearer first-key")], []),
        ([], [encoded(KEY)]),
        ([], [encoded(KEYS[1])]),
        ([], ["chat", encoded(KEY)]),
        ([], [encoded(KEY) + "="]),
    ],
)
def test_a_handshake_with_a_key(headers: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str]) -> None:
    """The key comes in the header, or, from browsers, as a subprotocol with or without padding."""
    (reply,) = shake({"auth_key": KEYS}, websocket_scope(Ask(path="/ws", headers=headers), subprotocols))
    assert reply.messages[0]["type"] == ACCEPT
    assert dict(reply.headers)[b"x-frame-options"] == b"DENY"


@pytest.mark.parametrize(
    "subprotocols",
    [
        [],
        ["chat"],
        [KEY],
        [f"bearer.{KEY}"],
        [encoded("wrong")],
        ["bearer."],
        ["bearer.!!!"],
        ["bearer.\xff"],
        ["bearer.А"],
    ],
)
@pytest.mark.parametrize("path", ["/ws", "/nothing"])
def test_a_handshake_without_a_key(path: str, subprotocols: Sequence[str]) -> None:
    """It is closed before it is accepted, which servers answer with 403; with the extension it is the 401 itself."""
    asked = Ask(path=path)
    plain, extended = shake(
        {"auth_key": KEY},
        websocket_scope(asked, subprotocols),
        websocket_scope(asked, subprotocols, ["websocket.http.response"]),
    )
    assert plain.messages == ({"type": "websocket.close", "code": 1008},)
    assert extended.problem == UNAUTHORIZED
    assert extended.header(b"www-authenticate") == b"Bearer"
    assert extended.header(b"x-frame-options") == b"DENY"


def test_an_open_path_is_no_open_websocket() -> None:
    """The open list is one of HTTP endpoints."""
    (reply,) = shake({"auth_key": KEY}, websocket_scope(Ask(path="/health")))
    assert reply.messages[0]["type"] == "websocket.close"


def test_a_handshake_at_an_unknown_path() -> None:
    """With the key, it is a 404."""
    scope = websocket_scope(Ask(path="/nothing"), [encoded(KEY)], ["websocket.http.response"])
    (reply,) = shake({"auth_key": KEY}, scope)
    assert reply.problem["status"] == 404


def test_a_digest_lets_in_who_has_its_key() -> None:
    """The digest itself is no key, alone and beside keys in clear."""
    digest = digest_of("made-up")
    tried = (b"Bearer made-up", f"Bearer {digest}".encode(), b"Bearer ", b"", None, b"Bearer first-key")
    assert statuses({"auth_key": digest}, *tried) == [200, 401, 401, 401, 401, 401]
    assert statuses({"auth_key": [KEY, digest]}, *tried) == [200, 401, 401, 401, 401, 200]
