"""Dependencies on routes of a deployment: given with them, and added by an extension when they were made already."""

import asyncio
from typing import Annotated, Any

import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Header, HTTPException, Request, WebSocket
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from asgipipe import BaseDeploymentAppRunner, Deployment
from asgipipe.errors import DefinitionError
from tests.http.wire import Ask, Reply, ask, ask_app, deployed, handshake, invoke, websocket_scope
from tests.runners.extras import hello

TOKEN = (b"x-token", b"good")
PATHS = ("/info", "/typed", "/typed/{name}", "/request", "/native/own", "/native/nested/deep", "/invoke", "/health")


async def check(x_token: Annotated[str, Header()] = "") -> None:
    if x_token != "good":
        raise HTTPException(403, "a token, please")


class Note(BaseModel):
    text: str


async def read(note: Annotated[Note, Body()]) -> None:
    if note.text != "good":
        raise HTTPException(403)


def typed(name: str = "") -> str:
    return name


async def request_handler(request: Request) -> str:
    return "request"


def native() -> APIRouter:
    nested = APIRouter(prefix="/nested")
    nested.add_api_route("/deep", typed)
    router = APIRouter()
    router.add_api_route("/own", typed)
    router.include_router(nested)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    router.add_api_websocket_route("/socket", socket)
    return router


def settings(**more: object) -> dict[str, object]:
    get = {"method": "GET"}
    return {
        "deployment_app_runner_flavor": "fastapi",
        "custom_endpoints": [
            {"path": "/typed", "handler": typed, **get},
            {"path": "/typed/{name}", "handler": typed, **get},
            {"path": "/request", "handler": request_handler, **get},
            {"path": "/native", "handler": native(), "native": True},
        ],
        **more,
    }


def by_hand(app_runner: BaseDeploymentAppRunner) -> None:
    """Do it as in an application of one's own, router by router."""
    app: Any = app_runner.asgi_app
    routers = [app.router]
    while routers:
        for route in routers.pop().routes:
            if hasattr(route, "original_router"):
                routers.append(route.original_router)
            else:
                route.dependencies.append(Depends(check))


def by_contexts(app_runner: BaseDeploymentAppRunner) -> None:
    """Do it with what FastAPI has for looking at all routes, included ones too."""
    app: Any = app_runner.asgi_app
    for context in iter_route_contexts(app.routes):
        context.dependencies.append(Depends(check))


def by_originals(app_runner: BaseDeploymentAppRunner) -> None:
    """Do it to the routes behind the contexts, which FastAPI made already."""
    app: Any = app_runner.asgi_app
    for context in iter_route_contexts(app.routes):
        route: Any = context.original_route
        route.dependencies.append(Depends(check))


def by_router(app_runner: BaseDeploymentAppRunner) -> None:
    """Do it to the application's router, for routes that are all there."""
    app: Any = app_runner.asgi_app
    app.router.dependencies.append(Depends(check))


@pytest.mark.parametrize("extension", [by_hand, by_contexts, by_originals, by_router])
@pytest.mark.parametrize("path", PATHS)
def test_what_an_extension_adds_takes_effect(extension: object, path: str) -> None:
    """On built-in, custom and native routes; FastAPI itself would ignore it in silence."""
    method = "POST" if path == "/invoke" else "GET"
    path = path.replace("{name}", "x")
    made = settings(app_extensions=[{"extension": extension}])
    closed, opened = ask(hello, made, Ask(method, path), Ask(method, path, [TOKEN]))
    assert (closed.status, opened.status) == (403, 200)
    assert closed.problem["detail"] == "a token, please"


@pytest.mark.parametrize("extension", [by_hand, by_contexts, by_originals, by_router])
def test_it_takes_effect_on_websockets(extension: object) -> None:
    """Of a native router, where the handshake is refused."""

    def handshakes(*headers: tuple[bytes, bytes]) -> Reply:
        app = deployed(hello, settings(app_extensions=[{"extension": extension}]))
        return asyncio.run(handshake(app, websocket_scope(Ask("GET", "/native/socket", headers))))

    assert handshakes().messages[0]["type"] == "websocket.close"
    assert handshakes(TOKEN).messages[0]["type"] == "websocket.accept"


def test_it_runs_once_for_a_request() -> None:
    """A dependency that a route had already is not run a second time."""
    ran: list[str] = []

    async def noted() -> None:
        ran.append("noted")

    def extension(app_runner: BaseDeploymentAppRunner) -> None:
        app: Any = app_runner.asgi_app
        for route in app.routes:
            if isinstance(route, APIRoute):
                route.dependencies.append(Depends(noted))

    made = settings(app_extensions=[{"extension": extension}], app_kwargs={"dependencies": [Depends(noted)]})
    ask(hello, made, Ask(path="/info"))
    assert ran == ["noted"]


def test_one_that_reads_the_body_fails_loudly() -> None:
    """FastAPI decides when it makes a route whether it reads a body; the error names the route and the way out."""

    def extension(app_runner: BaseDeploymentAppRunner) -> None:
        app: Any = app_runner.asgi_app
        next(route for route in app.routes if route.path == "/invoke").dependencies.append(Depends(read))

    with pytest.raises(
        DefinitionError, match=r"added to the route /invoke .* ignores it; give it in .* 'dependencies'"
    ):
        ask(hello, settings(app_extensions=[{"extension": extension}]))


def test_after_the_build_it_fails_loudly() -> None:
    """When nobody looks at the lists any more, they take nothing."""
    app: Any = Deployment(hello, settings(), layers=()).app_runner.asgi_app
    for context in iter_route_contexts(app.routes):
        with pytest.raises(AttributeError, match="append"):
            context.dependencies.append(Depends(check))


def test_dependencies_of_app_kwargs_guard_every_route() -> None:
    """Built-in, custom and native ones; the answers are ours."""
    made = settings(app_kwargs={"dependencies": [Depends(check)]})
    for path in PATHS:
        place = ("POST" if path == "/invoke" else "GET", path.replace("{name}", "x"))
        closed, opened = ask(hello, made, Ask(*place), Ask(*place, [TOKEN]))
        assert (closed.status, opened.status) == (403, 200), path


def test_a_dependency_of_one_endpoint() -> None:
    """`extra_kwargs` of a typed handler guard it, though the core calls it."""
    endpoint = {"path": "/x", "method": "GET", "handler": typed, "extra_kwargs": {"dependencies": [Depends(check)]}}
    made = {"deployment_app_runner_flavor": "fastapi", "custom_endpoints": [endpoint]}
    closed, opened, head = ask(hello, made, Ask(path="/x"), Ask(path="/x", headers=[TOKEN]), Ask("HEAD", "/x"))
    assert (closed.status, opened.json(), head.status) == (403, "", 403)


def test_a_body_that_a_dependency_has_read_is_read_again() -> None:
    """The endpoint behind it gets the same bytes."""

    async def signed(request: Request) -> None:
        if b"Ada" not in await request.body():
            raise HTTPException(403)

    made = settings(app_kwargs={"dependencies": [Depends(signed)]})
    refused, answered = ask(hello, made, invoke({"parameters": {}}), invoke({"parameters": {"name": "Ada"}}))
    assert (refused.status, answered.json()["outputs"]) == (403, {"output": "Hello, Ada!"})


def test_background_tasks_of_dependencies_run() -> None:
    """Also when the answer is not FastAPI's."""
    done: list[str] = []

    async def noting(tasks: BackgroundTasks) -> None:
        tasks.add_task(done.append, "done")

    ask(hello, settings(app_kwargs={"dependencies": [Depends(noting)]}), Ask(path="/info"))
    assert done == ["done"]


def test_overrides_work() -> None:
    """`dependency_overrides` of the application that is built hold for its routes."""

    def extension(app_runner: BaseDeploymentAppRunner) -> None:
        app: Any = app_runner.asgi_app
        app.dependency_overrides[check] = lambda: None

    made = settings(app_extensions=[{"extension": extension}], app_kwargs={"dependencies": [Depends(check)]})
    assert ask(hello, made, Ask(path="/info"))[0].status == 200


def test_fastapi_itself_ignores_it() -> None:
    """The fact behind all this; when it changes, so may we."""
    app = FastAPI()
    app.add_api_route("/x", typed)
    route: Any = app.routes[-1]
    route.dependencies.append(Depends(check))
    assert ask_app(app, Ask(path="/x"))[0].status == 200
