"""Native endpoints: objects of Starlette's, added as they are."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask, ask_one, deployed, handshake, websocket_scope
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, PAGE, hello, plain_app, told

NOT_OPEN = 403


def native(handler: object, path: str = "/n", **more: object) -> dict[str, object]:
    return {"path": path, "handler": handler, "native": True, **more}


def settings(*specs: Mapping[str, object], **more: object) -> dict[str, object]:
    return {"custom_endpoints": list(specs), **more}


def statuses(made: Mapping[str, object], *asked: Ask | str) -> list[int]:
    return [
        reply.status for reply in ask(hello, made, *(Ask(path=one) if isinstance(one, str) else one for one in asked))
    ]


def socket(app: ASGIApp, path: str, *headers: tuple[bytes, bytes]) -> Reply:
    return asyncio.run(handshake(app, websocket_scope(Ask(path=path, headers=headers))))


# Where they are


@pytest.mark.parametrize(
    ("handler", "path", "answered", "unknown"),
    [
        (Route("/n", told), "/n", {"/n": "/n"}, ["/n/", "/n/n"]),
        (Route("/n/told", told), "/n", {"/n/told": "/n/told"}, ["/n", "/told"]),
        (Route("/told", told), "/n", {"/n/told": "/n/told"}, ["/told", "/n"]),
        (Route("/", told), "/n", {"/n/": "/n/"}, ["/n"]),
        (Route("/told", told), "/", {"/told": "/told"}, []),
        (Route("/told", told), "", {"/told": "/told"}, []),
        (extras.native_mount(), "/n", {"/n/told": "/n/told"}, ["/n", "/n/", "/n/n/told"]),
        (extras.native_mount(), "/deep", {"/deep/n/told": "/deep/n/told"}, ["/n/told"]),
        (extras.native_router(), "/n", {"/n/told": "/n/told"}, ["/n", "/n/other"]),
        (extras.Told, "/n", {"/n": "/n"}, ["/n/", "/n/x"]),
        (plain_app, "/n", {"/n": "/n", "/n/": "/n/", "/n/x/y": "/n/x/y"}, ["/nn"]),
        (plain_app, "/n/{name}", {"/n/x": "/n/x", "/n/x/y": "/n/x/y"}, ["/n"]),
        (Starlette(routes=[Route("/told", told)]), "/n", {"/n/told": "/n/told"}, ["/n"]),
        (Host("testserver", app=Router([Route("/told", told)])), "/n", {"/n/told": "/n/told"}, []),
        ("tests.runners.extras:route", "/n", {"/n": "/n"}, []),
    ],
)
@pytest.mark.parametrize("root", ["", "/w"])
def test_native_objects_answer_at_or_below_their_path(
    handler: object, path: str, answered: dict[str, str], unknown: list[str], root: str
) -> None:
    """A route whose path begins with the endpoint's stays there, everything else is put below it; nothing redirects."""
    made = settings(native(handler, path), root_url_path=root)
    replies = ask(hello, made, *(Ask(path=root + one) for one in [*answered, *unknown]))
    for reply, said in zip(replies, answered.values(), strict=False):
        assert reply.status == 200
        assert reply.body.decode() == f"GET {root}{said}"
    assert [reply.status for reply in replies[len(answered) :]] == [404] * len(unknown)


def test_several_routes_share_a_path() -> None:
    """One route below a path does not hide the next, nor custom endpoints and the dashboard there."""
    made = settings(
        native(Route("/a", told), "/x"),
        native(Route("/b", told), "/x"),
        native(Route("/b", told, methods=["PUT"]), "/x"),
        {"path": "/x/c", "method": "GET", "handler": lambda: "c"},
        root_url_path="/w",
    )
    assert statuses(made, "/w/x/a", "/w/x/b", Ask("PUT", "/w/x/b"), "/w/x/c", "/w/", "/w/x/d") == [200] * 5 + [404]


def test_longer_paths_come_first() -> None:
    """An application at the root, or at /a, does not hide what lies below it, whatever the order of the list."""
    specs = [native(plain_app, ""), native(extras.native_router(), "/a/b"), native(plain_app, "/a")]
    for order in (specs, specs[::-1]):
        replies = ask(
            hello, settings(*order), *(Ask(path=path) for path in ("/a/b/told", "/a/b/none", "/a/x", "/z", "/info"))
        )
        assert [reply.status for reply in replies] == [200, 404, 200, 200, 200]
        assert replies[4].json()["pipeline"]["name"] == "hello"


def test_every_answer_carries_our_headers() -> None:
    """Secure headers and the request id are on native answers and refusals too, once each."""
    sub = Starlette(routes=[Route("/told", told)])
    for reply in ask(hello, settings(native(sub)), Ask(path="/n/told"), Ask(path="/n/none"), Ask("PUT", "/n/told")):
        assert all(len(reply.all(name)) == 1 for name in SECURE_HEADERS)


def test_a_native_route_tells_its_methods() -> None:
    """405 is a problem document with the methods of all routes at the path."""
    made = settings(
        native(Route("/n", told, methods=["GET"])),
        native(Route("/n", told, methods=["PUT"])),
        {"path": "/n", "handler": lambda: 1},
    )
    reply = ask_one(hello, Ask("DELETE", "/n"), made)
    assert reply.problem["status"] == 405
    assert reply.header(b"allow") == b"GET, HEAD, POST, PUT"


async def reading(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def swallowing(request: Request) -> Response:
    try:
        await request.body()
    except Exception as error:
        return PlainTextResponse(type(error).__name__, 400)
    return PlainTextResponse("read")


@pytest.mark.parametrize(
    "handler",
    [
        Route("/n/a", reading, methods=["POST"]),
        Mount("/n", app=Starlette(routes=[Route("/a", reading, methods=["POST"])])),
    ],
)
@pytest.mark.parametrize("through_framework", [False, True])
def test_bodies_are_limited_for_native_code(handler: BaseRoute, through_framework: bool) -> None:
    """413 as a problem document, also from inside an application that would make a 500 of it."""
    more = {"custom_middlewares": [{"middleware": extras.dispatching, "native": True}]} if through_framework else {}
    made = settings(native(handler), max_request_body_size=10, **more)
    good, bad = ask(hello, made, Ask("POST", "/n/a", (), b"x" * 10), Ask("POST", "/n/a", chunks=[b"x" * 6, b"x" * 6]))
    assert (good.body, bad.status) == (b"10", 413)
    assert bad.problem["type"] == "urn:asgipipe:body-too-large"


def test_the_limit_is_told_whatever_native_code_makes_of_it() -> None:
    """A handler that catches everything cannot turn a 413 into something else."""
    made = settings(native(Route("/n", swallowing, methods=["POST"])), max_request_body_size=10)
    assert ask_one(hello, Ask("POST", "/n", chunks=[b"x" * 11]), made).problem["status"] == 413


# WebSockets


class Socket(WebSocketEndpoint):
    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()


SOCKETS: list[tuple[object, str]] = [
    (WebSocketRoute("/n", extras.echoed), "/n"),
    (WebSocketRoute("/ws", extras.echoed), "/n/ws"),
    (extras.native_mount(), "/n/ws"),
    (extras.native_router(), "/n/ws"),
    (plain_app, "/n"),
    (plain_app, "/n/x"),
    (Socket, "/n"),
]


@pytest.mark.parametrize(("handler", "path"), SOCKETS)
def test_websockets_need_the_key_unless_they_are_open(handler: object, path: str) -> None:
    """The handshake is refused without the key, accepted with it, and by an open endpoint."""
    closed = deployed(hello, settings(native(handler), auth_key=KEY))
    opened = deployed(hello, settings(native(handler, auth_required=False), auth_key=KEY))
    assert socket(closed, path).messages[0]["type"] == "websocket.close"
    assert socket(closed, path, BEARER).messages[0]["type"] == "websocket.accept"
    assert socket(opened, path).messages[0]["type"] == "websocket.accept"


@pytest.mark.parametrize("path", ["/n", "/health", "/nowhere", "/docs", "/"])
def test_unlisted_websockets_are_refused(path: str) -> None:
    """Paths that are open for GET are not open for a handshake, and with the key there is nothing."""
    made = settings(native(Route("/n", told), auth_required=False), auth_key=KEY)
    for headers in ((), (BEARER,)):
        scope = websocket_scope(Ask(path=path, headers=headers), extensions=["websocket.http.response"])
        reply = asyncio.run(handshake(deployed(hello, made), scope))
        assert reply.status == (404 if headers else 401)
        assert reply.problem


async def failing_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    raise RuntimeError("secret")


async def early_socket(websocket: WebSocket) -> None:
    raise RuntimeError("secret")


async def leaving_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()


def test_failing_websockets_are_closed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Before the handshake a failure is refused; after it nothing of the inside is told; one line of log each."""
    made = settings(native(WebSocketRoute("/n/late", failing_socket)), native(WebSocketRoute("/n/early", early_socket)))
    app = deployed(hello, made)
    assert [message["type"] for message in socket(app, "/n/early").messages] == ["websocket.close"]
    assert [message["type"] for message in socket(app, "/n/late").messages] == ["websocket.accept"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_client_that_leaves_a_websocket_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """WebSocketDisconnect, which every handler gets when the client goes, is not logged as a failure."""
    socket(deployed(hello, settings(native(WebSocketRoute("/n", leaving_socket)))), "/n")
    assert not caplog.records


# Openness


def test_openness_of_one_native_object_is_not_that_of_another() -> None:
    """Only what was declared open is, even where paths lie inside one another, in any order."""
    specs = [
        native(plain_app, "/api"),
        native(Route("/api/public", told), "/api/public", auth_required=False),
        native(plain_app, "/api/free", auth_required=False),
        native(plain_app, "/api/free/closed"),
    ]
    open_paths = ["/api/public", "/api/free", "/api/free/x"]
    closed = ["/api", "/api/x", "/api/public/x", "/api/free/closed", "/api/free/closed/x", "/invoke", "/info"]
    for order in (specs, specs[::-1]):
        made = settings(*order, auth_key=KEY)
        assert statuses(made, *open_paths, *closed) == [200] * len(open_paths) + [401] * len(closed)


def test_an_open_application_at_the_root_opens_no_endpoint_of_ours() -> None:
    """Built-in and custom endpoints keep needing the key below an open native application."""
    for path in ("", "/"):
        made = settings(
            native(plain_app, path, auth_required=False),
            {"path": "/mine", "method": "GET", "handler": lambda: 1},
            auth_key=KEY,
        )
        assert (
            statuses(made, "/info", "/mine", Ask("POST", "/invoke"), "/metrics", "/other", "/health")
            == [401] * 4 + [200] * 2
        )


def test_two_routes_at_one_path_are_open_each_for_itself() -> None:
    """GET open, PUT closed, at the same path."""
    made = settings(
        native(Route("/n", told, methods=["GET"]), auth_required=False),
        native(Route("/n", told, methods=["PUT"])),
        auth_key=KEY,
    )
    assert statuses(made, Ask("GET", "/n"), Ask("PUT", "/n"), Ask("POST", "/n")) == [200, 401, 401]


def added(app_runner: Any) -> None:
    app_runner.asgi_app.router.routes.insert(0, Route("/n/added", told))
    app_runner.asgi_app.router.routes.insert(0, Route("/health", told))
    app_runner.asgi_app.add_route("/late", told)


def test_routes_of_extensions_need_the_key() -> None:
    """Nobody declared them open: in front of an open native object, in the place of a probe, or anywhere else."""
    made = settings(native(plain_app, "/n", auth_required=False), app_extensions=[{"extension": added}], auth_key=KEY)
    assert statuses(made, "/n/added", "/late", "/health", "/ready", "/n/other") == [401, 401, 401, 200, 200]
    assert statuses(made, Ask("GET", "/n/added", [BEARER]), Ask("GET", "/late", [BEARER])) == [200, 200]


# The dashboard beside them


@pytest.mark.parametrize("through_framework", [False, True])
@pytest.mark.parametrize(
    "handler",
    [Route("/app", told), Mount("/app", routes=[Route("/", told)]), extras.Told, plain_app, extras.native_router()],
)
def test_a_page_of_the_dashboard_never_lets_anybody_in(
    handler: object, through_framework: bool, tmp_path: Path
) -> None:
    """A browser without the key gets 401 at a native path, as everybody; a file of that name changes nothing."""
    (tmp_path / "index.html").write_text("<p>dashboard</p>")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "told").write_text("file")
    more = {"app_extensions": [{"extension": lambda app_runner: None}]} if through_framework else {}
    made = settings(native(handler, "/app"), auth_key=KEY, dashboard_files_path=str(tmp_path), **more)
    paths = {"Told": "/app", "Router": "/app/told"}.get(getattr(handler, "__name__", type(handler).__name__), "/app/")
    if isinstance(handler, Route):
        paths = "/app"
    denied, granted, client_route = ask(
        hello, made, Ask("GET", paths, [PAGE]), Ask("GET", paths, [PAGE, BEARER]), Ask("GET", "/elsewhere", [PAGE])
    )
    assert denied.status == 401
    assert granted.body.startswith(b"GET /app")
    assert client_route.body == b"<p>dashboard</p>"


@pytest.mark.parametrize("path", ["/app", "/app/x", "/app/x/y"])
def test_segments_of_native_and_custom_endpoints_are_no_client_routes(path: str) -> None:
    """What is unknown below them is a 404 problem, or a 401, not the dashboard's page."""
    specs = (
        native(Route("/app/told", told), "/app"),
        {"path": "/own/{name}", "method": "PUT", "handler": lambda name: 1},
    )
    for one in (path, path.replace("/app", "/own")):
        unknown = ask_one(hello, Ask("GET", one, [PAGE]), settings(*specs))
        denied = ask_one(hello, Ask("GET", one, [PAGE]), settings(*specs, auth_key=KEY))
        assert unknown.problem["status"] in (404, 405)
        assert denied.status == 401


# Lifespans


@asynccontextmanager
async def noting(app: object) -> AsyncIterator[dict[str, object]]:
    NOTES.append("start")
    yield {"model": "loaded"}
    NOTES.append("stop")


NOTES: list[str] = []


async def stateful(request: Request) -> Response:
    return PlainTextResponse(request.state.model)


@pytest.mark.parametrize(
    "handler",
    [
        Starlette(routes=[Route("/a", stateful)], lifespan=noting),
        Router([Route("/a", stateful)], lifespan=noting),
        Mount("/n", app=Starlette(routes=[Route("/a", stateful)], lifespan=noting)),
    ],
)
def test_the_lifespan_of_a_native_application_runs(handler: object) -> None:
    """Once, around the requests, though it is mounted; its state is in the requests."""
    NOTES.clear()
    twice = settings(native(handler), native(handler, "/m"))
    assert ask_one(hello, Ask(path="/n/a"), twice).body == b"loaded"
    assert NOTES == ["start", "stop"]


# What is refused


def view(request: Request) -> Response:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (native(view), "is not an ASGI application, which takes (scope, receive, send)"),
        (native(object()), "is neither a Starlette route nor an ASGI application"),
        (native(Route("/n", told), extra_kwargs={"name": "x"}), "extra_kwargs have nowhere to go"),
        (native(plain_app, extra_kwargs={"nmae": "x"}), "unexpected keyword argument 'nmae'"),
        (native("tests.runners.extras:rote"), "has no attribute 'rote'"),
    ],
)
def test_what_is_no_native_object_is_refused(made: dict[str, object], reason: str) -> None:
    """It is told when the deployment is built, and names the endpoint."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, settings(made))
    assert str(refused.value).startswith("custom endpoint /n: ") or str(refused.value).startswith(
        "custom endpoint /n raised"
    )
    assert reason in str(refused.value)


def test_extra_arguments_reach_the_mount() -> None:
    """`extra_kwargs` go to Starlette's Mount, or Route, that is made for an application."""
    made = settings(
        native(plain_app, extra_kwargs={"name": "special"}), native(extras.Told, "/t", extra_kwargs={"name": "told"})
    )
    seen: list[str] = []

    def look(app_runner: Any) -> None:
        seen.extend(
            [str(app_runner.asgi_app.url_path_for("special", path="x")), str(app_runner.asgi_app.url_path_for("told"))]
        )

    deployed(hello, {**made, "app_extensions": [{"extension": look}]})
    assert seen == ["/n/x", "/t"]
