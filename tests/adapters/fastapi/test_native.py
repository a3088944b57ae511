"""FastAPI's own objects inside a deployment: routers, routes, applications, frontends; the key guards all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.routing import APIRoute, APIWebSocketRoute
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute

from asgipipe import BaseDeploymentAppRunner
from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp
from asgipipe_fastapi import mount
from tests.http.wire import Ask, Reply, ask, ask_app, deployed, handshake, invoke, websocket_scope
from tests.runners.extras import BEARER, KEY, echoed, hello, plain_app, told
from tests.running import Settings


class City(BaseModel):
    name: str
    population: float


def read() -> str:
    return "read"


def write(city: City) -> City:
    return city


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("native")
    await websocket.close()


def whole_router() -> APIRouter:
    """Make a router with everything in it that a router can have."""
    nested = APIRouter(prefix="/nested")
    nested.add_api_route("/read", read)
    nested.add_api_websocket_route("/socket", socket)
    router = APIRouter()
    router.add_api_route("/read", read)
    router.add_api_route("/write", write, methods=["POST"])
    router.add_api_websocket_route("/socket", socket)
    router.routes += [
        Route("/starlette", told),
        WebSocketRoute("/plain-socket", echoed),
        Mount("/mounted", app=plain_app),
    ]
    router.include_router(nested)
    return router


def sub_application() -> FastAPI:
    app = FastAPI()
    app.include_router(whole_router())
    return app


def with_native(native: object, path: str = "/n", **spec: object) -> Settings:
    return {
        "deployment_app_runner_flavor": "fastapi",
        "custom_endpoints": [{"path": path, "handler": native, "native": True, **spec}],
        "auth_key": KEY,
    }


READ = ("/n/read", "/n/starlette", "/n/mounted/x", "/n/nested/read")
SOCKETS = ("/n/socket", "/n/plain-socket", "/n/mounted/x", "/n/nested/socket")


def opened(app: ASGIApp, path: str, *headers: tuple[bytes, bytes]) -> bool:
    """Say whether a WebSocket was accepted."""
    answered: Reply = asyncio.run(handshake(app, websocket_scope(Ask("GET", path, headers))))
    return answered.messages[0]["type"] == "websocket.accept"


@pytest.mark.parametrize("make", [whole_router, sub_application])
def test_everything_in_it_needs_the_key(make: Any) -> None:
    """Routes of FastAPI's and of Starlette's, mounts, WebSockets, nested routers; with HEAD and OPTIONS too."""
    made = with_native(make())
    places = [(method, path) for method in ("GET", "HEAD", "OPTIONS") for path in (*READ, "/n/nowhere")]
    assert {each.status for each in ask(hello, made, *(Ask(*place) for place in places))} == {401}
    assert {each.status for each in ask(hello, made, *(Ask("GET", path, [BEARER]) for path in READ))} == {200}
    assert not any(opened(deployed(hello, made), path) for path in SOCKETS)
    assert all(opened(deployed(hello, made), path, BEARER) for path in SOCKETS)


@pytest.mark.parametrize("make", [whole_router, sub_application])
def test_everything_in_it_is_open_when_it_was_declared_so(make: Any) -> None:
    """`auth_required=False` holds for what is inside, and for nothing beside it."""
    made = with_native(make(), auth_required=False)
    assert {each.status for each in ask(hello, made, *(Ask(path=path) for path in READ))} == {200}
    assert all(opened(deployed(hello, made), path) for path in SOCKETS)
    assert [each.status for each in ask(hello, made, Ask(path="/info"), Ask(path="/nx"))] == [401, 401]


def test_head_works_in_a_router() -> None:
    """With the key or where it is open; an application of its own answers 405, as it does elsewhere."""
    closed = ask(hello, with_native(whole_router()), *(Ask("HEAD", path, [BEARER]) for path in READ))
    opened = ask(hello, with_native(whole_router(), auth_required=False), *(Ask("HEAD", path) for path in READ))
    assert {(each.status, each.body) for each in (*closed, *opened)} == {(200, b"")}
    assert ask(hello, with_native(sub_application()), Ask("HEAD", READ[0], [BEARER]))[0].status == 405


def test_what_it_refuses_looks_like_ours() -> None:
    """404, 405 with the path's methods, 422 and 400 of a router's routes."""
    body = b'{"name": "x", "population": NaN, "more": '
    unknown, wrong, options, refused, broken = ask(
        hello,
        with_native(whole_router()),
        Ask(path="/n/nowhere", headers=[BEARER]),
        Ask("PUT", "/n/read", [BEARER]),
        Ask("OPTIONS", "/n/write", [BEARER]),
        invoke({"name": "x", "population": "canary"}, BEARER, path="/n/write"),
        invoke(body, BEARER, path="/n/write"),
    )
    assert unknown.problem["status"] == 404
    assert (wrong.problem["status"], wrong.header(b"allow")) == (405, b"GET, HEAD")
    assert (options.problem["status"], options.header(b"allow")) == (405, b"POST")
    assert [error["loc"] for error in refused.problem["errors"]] == [["body", "population"]]
    assert b"canary" not in refused.body
    assert broken.problem["status"] == 400


def test_nan_in_a_body_is_no_500() -> None:
    """FastAPI's own 422 cannot be written as JSON then; ours does not repeat the input."""
    for population in (b"NaN", b"1e400", b'"NaN"'):
        body = b'{"name": 1, "population": ' + population + b"}"
        (refused,) = ask(hello, with_native(whole_router()), invoke(body, BEARER, path="/n/write"))
        assert refused.problem["status"] == 422


@pytest.mark.parametrize("path", ["/n", "/n/route"])
def test_a_single_route(path: str) -> None:
    """A route of FastAPI's is below the path of the endpoint, or stays where it is when it is there already."""
    made = with_native(APIRoute(path, read)) if path != "/n" else with_native(APIRoute("/route", read))
    closed, answered = ask(hello, made, Ask(path="/n/route"), Ask(path="/n/route", headers=[BEARER]))
    assert (closed.status, answered.json()) == (401, "read")


def test_a_single_websocket_route() -> None:
    """The same for a WebSocket."""
    app = deployed(hello, with_native(APIWebSocketRoute("/socket", socket)))
    assert (opened(app, "/n/socket"), opened(app, "/n/socket", BEARER)) == (False, True)


def test_arguments_of_the_include() -> None:
    """`extra_kwargs` are those of `include_router`; they and those of `app_kwargs` guard the router's routes."""

    async def forbid() -> None:
        raise HTTPException(403)

    by_include = with_native(whole_router(), extra_kwargs={"dependencies": [Depends(forbid)]})
    by_app = {**with_native(whole_router()), "app_kwargs": {"dependencies": [Depends(forbid)]}}
    by_app_for_one = {**with_native(APIRoute("/read", read)), "app_kwargs": {"dependencies": [Depends(forbid)]}}
    for made in (by_include, by_app, by_app_for_one):
        assert ask(hello, made, Ask(path="/n/read", headers=[BEARER]))[0].status == 403


def test_mistakes_are_told_when_it_is_built() -> None:
    """Arguments beside a route, a router without paths at the root, arguments that nothing takes."""
    with pytest.raises(DefinitionError, match=r"custom endpoint /n: extra_kwargs have nowhere to go"):
        deployed(hello, with_native(APIRoute("/x", read), extra_kwargs={"tags": ["a"]}))
    with pytest.raises(DefinitionError, match=r"custom endpoint /n raised TypeError: .*nothing"):
        deployed(hello, with_native(whole_router(), extra_kwargs={"nothing": 1}))


def test_ours_come_first() -> None:
    """A router that takes every path does not take ours, whatever it was declared as."""
    router = APIRouter()
    router.add_api_route("/{path:path}", read)
    health, info = ask(hello, with_native(router, "/", auth_required=False), Ask(path="/health"), Ask(path="/info"))
    assert (health.json()["status"], info.status) == ("healthy", 401)


def test_the_lifespan_of_a_router_and_of_an_application_runs_once() -> None:
    """Around the requests, whether it is included or mounted."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        seen.append("start")
        yield
        seen.append("stop")

    for native in (APIRouter(lifespan=lifespan), FastAPI(lifespan=lifespan), Starlette(lifespan=lifespan)):
        seen.clear()
        ask(hello, with_native(native), Ask(path="/health"))
        assert seen == ["start", "stop"]


def test_a_router_that_an_extension_includes_needs_the_key() -> None:
    """Nobody declared it open, also at the path of an open endpoint."""

    def extension(app_runner: BaseDeploymentAppRunner) -> None:
        app: Any = app_runner.asgi_app
        router = APIRouter()
        router.add_api_route("/health", read)
        router.add_api_route("/added", read)
        app.include_router(router)
        app.router.routes.insert(0, app.router.routes.pop())

    made = {"deployment_app_runner_flavor": "fastapi", "auth_key": KEY, "app_extensions": [{"extension": extension}]}
    assert [each.status for each in ask(hello, made, Ask(path="/health"), Ask(path="/added"))] == [401, 401]
    assert ask(hello, made, Ask(path="/added", headers=[BEARER]))[0].json() == "read"


@pytest.mark.parametrize("auth_required", [True, False])
def test_frontends(tmp_path: Path, auth_required: bool) -> None:
    """Files of a router's `frontend`, which no list of routes has, need the key unless the router was declared open."""
    (tmp_path / "page.html").write_text("page")
    router = APIRouter()
    router.frontend("/", directory=tmp_path)
    made = with_native(router, "/site", auth_required=auth_required)
    without, with_key, beside = ask(
        hello,
        made,
        Ask(path="/site/page.html"),
        Ask(path="/site/page.html", headers=[BEARER]),
        Ask(path="/page.html"),
    )
    assert (without.status, with_key.body, beside.status) == (401 if auth_required else 200, b"page", 401)


def test_a_frontend_of_an_extension_needs_the_key(tmp_path: Path) -> None:
    """Also where it is more exact than one that is open."""
    (tmp_path / "page.html").write_text("page")
    router = APIRouter()
    router.frontend("/", directory=tmp_path)

    def extension(app_runner: BaseDeploymentAppRunner, directory: Path) -> None:
        app: Any = app_runner.asgi_app
        app.frontend("/site/inner", directory=directory)

    made = {
        **with_native(router, "/site", auth_required=False),
        "app_extensions": [{"extension": extension, "extension_kwargs": {"directory": tmp_path}}],
    }
    outer, inner = ask(hello, made, Ask(path="/site/page.html"), Ask(path="/site/inner/page.html"))
    assert (outer.status, inner.status) == (200, 401)


def test_url_for_finds_routes_of_the_deployment_below_a_mount() -> None:
    """In the application of a host, a native handler asks its own router, not that of the host."""
    router = APIRouter()

    @router.get("/where")
    async def where(request: Request) -> str:
        return str(request.url_for("where"))

    app = FastAPI()
    mount(app, "/weather", hello, {"custom_endpoints": [{"path": "/n", "handler": router, "native": True}]})
    (answered,) = ask_app(app, Ask(path="/weather/n/where"))
    assert answered.json() == "http://testserver/weather/n/where"
