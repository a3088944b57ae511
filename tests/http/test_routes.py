import pytest

from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import NO_DEFAULTS, Exchange
from asgipipe.http.routes import Routes, precedence, table
from asgipipe.http.types import Message, Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None: ...


async def other(scope: Scope, receive: Receive, send: Send) -> None: ...


def endpoint(method: str, path: str, *, closed: bool = True) -> Endpoint:
    return Endpoint(path, method, app, path, closed)


def asked(method: str, path: str, kind: str = "http") -> tuple[Scope, Exchange]:
    async def send(message: Message) -> None: ...

    scope: Scope = {"type": kind, "path": path}
    if kind == "http":
        scope["method"] = method
    return scope, Exchange(send, path, {}, b"id", NO_DEFAULTS)


ROUTES = Routes(
    [
        endpoint("GET", "/open", closed=False),
        endpoint("POST", "/open"),
        endpoint("GET", "/closed"),
        endpoint("POST", "/only-post", closed=False),
        endpoint("GET", "/items/{name}", closed=False),
        endpoint("GET", "/items/secret"),
        endpoint("GET", "/files/{rest:path}", closed=False),
        endpoint("GET", "/files/closed/{rest:path}"),
        endpoint("GET", "/numbers/{n:int}", closed=False),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "is_open"),
    [
        ("GET", "/open", True),
        ("HEAD", "/open", True),
        ("POST", "/open", False),
        ("OPTIONS", "/open", False),
        ("get", "/open", False),
        ("GET", "/closed", False),
        ("HEAD", "/closed", False),
        ("POST", "/only-post", True),
        ("GET", "/only-post", False),
        ("HEAD", "/only-post", False),
        ("GET", "/open/", False),
        ("GET", "//open", False),
        ("GET", "/OPEN", False),
        ("GET", "/open%2f", False),
        ("GET", "/open\n", False),
        ("GET", "/open\x00", False),
        ("GET", "", False),
        ("GET", "/", False),
        ("GET", "/items/a", True),
        ("HEAD", "/items/a", True),
        ("POST", "/items/a", False),
        ("GET", "/items/", False),
        ("GET", "/items/a/b", False),
        ("GET", "/items/a\n", True),  # the framework would answer it with the same endpoint
        ("GET", "/items/secret", False),
        ("HEAD", "/items/secret", False),
        ("GET", "/files/a/b", True),
        ("GET", "/files/closed/b", False),
        ("GET", "/numbers/1", True),
        ("GET", "/numbers/x", False),
    ],
)
def test_what_is_open(method: str, path: str, is_open: bool) -> None:
    """Exactly the endpoint that would answer decides: by method and path, to the letter, the more exact path first."""
    assert ROUTES.is_open(*asked(method, path)) is is_open


def test_a_websocket_is_never_one_of_our_endpoints() -> None:
    """The open list is one of HTTP endpoints."""
    assert not ROUTES.is_open(*asked("GET", "/open", "websocket"))


@pytest.mark.parametrize(("needed", "is_open"), [(True, False), (False, True), (None, False)])
def test_native_routes_are_asked_about(needed: bool | None, is_open: bool) -> None:
    """Where no endpoint of ours answers, the framework's own route decides; an unknown path is closed."""
    routes = Routes([endpoint("GET", "/mine")], key_needed=lambda _: needed)
    assert routes.is_open(*asked("GET", "/native")) is is_open
    assert routes.is_open(*asked("GET", "/native", "websocket")) is is_open
    assert not routes.is_open(*asked("GET", "/mine"))


def test_allowed_methods() -> None:
    """All methods of a path, with HEAD where there is GET; none where nothing is."""
    assert ROUTES.allowed("/open") == {"GET", "HEAD", "POST"}
    assert ROUTES.allowed("/only-post") == {"POST"}
    assert ROUTES.allowed("/items/a") == {"GET", "HEAD"}
    assert ROUTES.allowed("/nothing") == set()


def test_the_table_of_the_short_way() -> None:
    """Path, then method, then application; HEAD comes with GET, in whatever order the methods come."""
    rows = table([Endpoint("/a", "POST", other, "a"), Endpoint("/a", "GET", app, "a"), Endpoint("/b", "POST", app, "b")])
    assert rows == {"/a": {"POST": other, "GET": app, "HEAD": app}, "/b": {"POST": app}}


def test_more_exact_paths_come_first() -> None:
    """Literal text before a name, a name before a whole path, segment by segment."""
    paths = ["/{rest:path}", "/a/{name}", "/{name}", "/a/x{name}", "/a/{rest:path}", "/a/b", "/{name}/b"]
    assert sorted(paths, key=precedence) == [
        "/a/b",
        "/a/x{name}",
        "/a/{name}",
        "/a/{rest:path}",
        "/{name}",
        "/{name}/b",
        "/{rest:path}",
    ]
