import asyncio
import re
from collections.abc import Iterable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, compile_path

from asgipipe import AppExtensionSpec, Deployment, EndpointSpec
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import NO_DEFAULTS, Exchange
from asgipipe.http.routes import Routes, path_pattern, precedence, table
from asgipipe.http.types import Message, Receive, Scope, Send
from asgipipe.runners.base import BaseDeploymentAppRunner
from asgipipe.settings import EndpointMethod
from tests.conftest import lifespan
from tests.http.wire import SECURE_HEADERS, Ask, Reply, handshake, reply, websocket_scope


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
    """Where the framework's own route would answer, it decides; an unknown path is closed."""
    routes = Routes([endpoint("GET", "/mine")], key_needed=lambda _: needed)
    assert routes.is_open(*asked("GET", "/native")) is is_open
    assert routes.is_open(*asked("GET", "/native", "websocket")) is is_open


def test_allowed_methods() -> None:
    """All methods of a path, with HEAD where there is GET; none where nothing is."""
    assert ROUTES.allowed("/open") == {"GET", "HEAD", "POST"}
    assert ROUTES.allowed("/only-post") == {"POST"}
    assert ROUTES.allowed("/items/a") == {"GET", "HEAD"}
    assert ROUTES.allowed("/nothing") == set()


def test_the_table_of_the_short_way() -> None:
    """Path, then method, then application; HEAD comes with GET, in whatever order the methods come."""
    rows = table({("POST", "/a"): other, ("GET", "/a"): app, ("POST", "/b"): app})
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


# Rows 36 and 37 of the promises: every route, ours and the framework's own, in every way to ask for it

KEY = "right-key"
KEYS = {
    "none": None,
    "wrong": b"Bearer wrong-key",
    "not ASCII": b"Bearer \xff\xc3\xa4",
    "right": b"Bearer " + KEY.encode(),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
HTML = (b"accept", b"text/html,*/*;q=0.8")

# What may answer without the key, and nothing else: (path, methods).
OPEN = {
    "/health": {"GET", "HEAD"},
    "/ready": {"GET", "HEAD"},
    "/docs": {"GET", "HEAD"},
    "/redoc": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
    "/custom-open": {"POST"},
    "/custom-open/a": {"GET", "HEAD"},
    "/native-open": {"GET", "HEAD"},
    "/mount-open": set(METHODS),
    "/mount-open/a": set(METHODS),
}


def echo(x: int = 1) -> int:
    return x


def named(name: str = "a") -> str:
    return name


async def answer(request: Request) -> Response:
    return PlainTextResponse("native")


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("mounted")(scope, receive, send)


def extend(app_runner: BaseDeploymentAppRunner) -> None:
    """Add routes to the framework's application behind our back."""
    application = app_runner.asgi_app
    assert isinstance(application, Starlette)
    application.router.routes.append(Route("/extension", answer))
    application.mount("/extension-mount", mounted)


def spec(
    path: str, handler: object, method: str = "GET", *, is_open: bool = False, native: bool = False
) -> EndpointSpec:
    return EndpointSpec(
        path=path, method=EndpointMethod[method], handler=handler, auth_required=not is_open, native=native
    )


def everything() -> Deployment:
    settings = {
        "auth_key": KEY,
        "custom_endpoints": [
            spec("/custom", named),
            spec("/custom-open", named, "POST", is_open=True),
            spec("/custom-open/{name}", named, is_open=True),
            spec("/custom-open/secret", named),
            spec("/native", Route("/native", answer), native=True),
            spec("/native-open", Route("/native-open", answer), native=True, is_open=True),
            spec("/mount", mounted, native=True),
            spec("/mount-open", mounted, native=True, is_open=True),
            spec("/routes", Mount("/routes", routes=[Route("/inner/{x}", answer)]), native=True),
        ],
        "app_extensions": [AppExtensionSpec(extension=extend)],
    }
    return Deployment(echo, settings, layers=())


def own_paths(routes: Iterable[object], prefix: str = "") -> Iterator[str]:
    """Every path that the framework knows, from its own list of routes."""
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        yield path
        yield from own_paths(getattr(route, "routes", None) or (), path)
        if isinstance(route, Mount):
            yield f"{path}/a"


def variants(path: str) -> set[str]:
    return {
        path,
        f"{path}/",
        f"/{path}",
        f"{path}%2f",
        f"/.{path}",
        f"{path}/..{path}",
        path.upper(),
        f"{path}\x00",
        f"{path}\n",
        f"{path};a",
        f"{path}?",
        path.replace("/", "//"),
        path.replace("/", "\\"),
    }


def asked_for(paths: Iterable[str]) -> Iterator[tuple[str, Ask]]:
    for path in sorted(paths):
        for method in METHODS:
            for kind, key in KEYS.items():
                headers = [] if key is None else [(b"authorization", key)]
                yield kind, Ask(method, "", headers, scope={"path": path})
                if method in {"GET", "HEAD"}:
                    yield kind, Ask(method, "", [*headers, HTML], scope={"path": path})


def test_every_route_in_every_way() -> None:
    """Without the right key only what is on the open list answers, and the dashboard's own files; with it nothing is a
    401. Every answer carries every header once.
    """

    async def main() -> None:
        deployment = everything()
        app = deployment.asgi_app
        application = deployment.app_runner.asgi_app
        assert isinstance(application, Starlette)
        found = {re.sub(r"\{[^}]*\}", "a", path) for path in own_paths(application.routes)}
        registry = {re.sub(r"\{[^}]*\}", "a", each.path) for each in deployment.app_runner.routes.endpoints}
        assert registry < found
        async with lifespan(app):
            index = (await reply(app, Ask("GET", "/"))).body
            tried = {
                variant for path in (*found, "/", "/nothing", "/dashboard/style.css") for variant in variants(path)
            }
            for kind, asked in asked_for(tried):
                given = await reply(app, asked)
                path = str(asked.scope["path"])
                place = (path, asked.method, kind, given.status)
                assert {name: len(given.all(name)) for name in SECURE_HEADERS} == dict.fromkeys(SECURE_HEADERS, 1), (
                    place
                )
                if kind == "right":
                    assert given.status != 401, place
                elif given.status != 401:
                    assert _is_open(path, asked, given, index), place

    asyncio.run(main())


def _is_open(path: str, asked: Ask, given: Reply, index: bytes) -> bool:
    plain = path.removesuffix("\n")  # Starlette's patterns end in `$`: it is the same route that answers
    if any(plain == known and asked.method in methods for known, methods in OPEN.items()):
        return True
    if path.startswith("/mount-open/"):  # a mount is open with all that is below it
        return True
    if re.fullmatch(r"/custom-open/[^/]+", path):
        return path != "/custom-open/secret" and asked.method in {"GET", "HEAD"}
    if asked.method not in {"GET", "HEAD"}:
        return False
    if path == "/dashboard/style.css" or re.fullmatch(r"/(docs|redoc)/assets/[a-z0-9._-]+", path):
        return True
    # The dashboard's client-side routes are its own index.html, whatever they are called.
    is_page = path == "/" or HTML in asked.headers
    return is_page and given.status == 200 and given.body in {index, b""}


def test_every_websocket_in_every_way() -> None:
    """No handshake is let in without the key, at any path, but below a mount that was declared open."""

    async def main() -> None:
        deployment = everything()
        async with lifespan(deployment.asgi_app):
            for path in ("/", "/native", "/mount", "/mount/a", "/extension-mount/a", "/health", "/invoke", "/nothing"):
                for variant in variants(path):
                    asked = Ask(path="", scope={"path": variant})
                    given = await handshake(deployment.asgi_app, websocket_scope(asked))
                    assert given.messages[0]["type"] == "websocket.close", variant

    asyncio.run(main())


@pytest.mark.parametrize(
    "template",
    ["/", "/a/b", "/a+b/{x}", "/{x}.{y}/end", "/files/{rest:path}", "/{a:str}/{b:int}/{c:float}/{d:uuid}/{rest:path}"],
)
def test_templates_are_read_as_starlette_reads_them(template: str) -> None:
    """But for the end: a path with a line break behind it is another path."""
    theirs, ours = compile_path(template)[0], path_pattern(template)
    assert ours.pattern == theirs.pattern.removesuffix("$") + r"\Z"
