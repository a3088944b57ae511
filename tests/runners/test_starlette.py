"""The Starlette app runner: what `app_kwargs` give to Starlette."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from asgipipe.http.types import Message
from asgipipe.runners.starlette import StarletteAppRunner
from tests.http.wire import Ask, ask, ask_one, deployed, http_scope, invoke, reply
from tests.runners.extras import BEARER, KEY, Tagging, dispatching, hello, needs_body_limits, told


class Teapot(Exception):
    pass


async def pour(request: Request) -> Response:
    raise Teapot


async def sealed(request: Request) -> Response:
    raise HTTPException(423, "sealed")


async def breaking(request: Request) -> Response:
    raise RuntimeError("secret")


def handled(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"handled {type(error).__name__}", 499)


ENDPOINTS = [
    {"path": "/pour", "method": "GET", "handler": pour},
    {"path": "/sealed", "method": "GET", "handler": sealed},
    {"path": "/breaking", "method": "GET", "handler": breaking},
    {"path": "/native", "handler": Route("/native", pour), "native": True},
]


def settings(**app_kwargs: object) -> dict[str, object]:
    return {"custom_endpoints": ENDPOINTS, "app_kwargs": app_kwargs}


def test_exception_handlers_reach_starlette() -> None:
    """By class, by status and for everything else; handlers of endpoints and native routes alike."""
    made = settings(exception_handlers={Teapot: handled, 423: handled, 500: handled})
    replies = ask(hello, made, *(Ask(path=path) for path in ("/pour", "/native", "/sealed", "/breaking")))
    assert [reply.body for reply in replies] == [
        b"handled Teapot",
        b"handled Teapot",
        b"handled HTTPException",
        b"handled RuntimeError",
    ]


def test_our_refusals_stay_problems_beside_other_handlers() -> None:
    """An exception handler of the user's for something else changes no answer of ours."""
    unknown, wrong, refused = ask(
        hello,
        settings(exception_handlers={Teapot: handled}),
        Ask(path="/nowhere"),
        Ask("PUT", "/invoke"),
        invoke({"parameters": {"name": 1}}),
    )
    assert [unknown.problem["status"], wrong.problem["status"], refused.problem["status"]] == [404, 405, 422]


def test_a_redirect_that_is_raised_is_sent() -> None:
    """HTTPException with a status below 400 is an answer, not a problem."""

    async def moved(request: Request) -> Response:
        raise HTTPException(307, headers={"location": "/info"})

    sent = ask_one(
        hello, Ask(path="/moved"), {"custom_endpoints": [{"path": "/moved", "method": "GET", "handler": moved}]}
    )
    assert (sent.status, sent.header(b"location")) == (307, b"/info")


def test_middleware_of_app_kwargs_sees_every_request() -> None:
    """`middleware=[...]` of Starlette's stands around built-in endpoints too."""
    made = settings(middleware=[Middleware(Tagging, tag="mine")])
    for asked in (Ask(path="/info"), Ask(path="/health"), Ask(path="/nowhere")):
        assert ask_one(hello, asked, made).all(b"x-passed") == [b"mine"]


def test_routes_of_app_kwargs_come_last_and_need_the_key() -> None:
    """They are served, but cannot take an open path of ours, and nobody declared them open."""
    made = {**settings(routes=[Route("/extra", told), Route("/health", told)]), "auth_key": KEY}
    denied, granted, health = ask(
        hello, made, Ask(path="/extra"), Ask(path="/extra", headers=[BEARER]), Ask(path="/health")
    )
    assert (denied.status, granted.body, health.json()["status"]) == (401, b"GET /extra", "healthy")


def test_debug_reaches_starlette() -> None:
    """`debug` is the user's wish to see the traceback."""
    assert b"RuntimeError: secret" in ask_one(hello, Ask(path="/breaking"), settings(debug=True)).body


@needs_body_limits
def test_a_body_limit_of_starlettes() -> None:
    """`max_body_size` is one of Starlette's own arguments."""
    assert ask_one(hello, Ask("POST", "/invoke", (), b"x" * 50), settings(max_body_size=10)).status == 413


@asynccontextmanager
async def loading(app: Starlette) -> AsyncIterator[dict[str, object]]:
    app.state.loaded = True
    yield {"model": "small"}
    app.state.loaded = False


async def model(request: Request) -> Response:
    return PlainTextResponse(f"{request.state.model} {request.app.state.loaded}")


def test_the_lifespan_runs_and_its_state_is_in_the_requests() -> None:
    """Around the requests; with and without a server that keeps the state."""
    made = {**settings(lifespan=loading), "custom_endpoints": [{"path": "/model", "method": "GET", "handler": model}]}
    deployment = Deployment(hello, made, layers=())
    app: Any = deployment.app_runner.asgi_app

    async def without_lifespan_events() -> None:
        answered = await reply(
            deployment.asgi_app, Ask(path="/model", scope={"state": {"host": 1, "model": "of the host"}})
        )
        assert answered.body == b"small True"
        await deployment.stop()

    asyncio.run(without_lifespan_events())
    assert app.state.loaded is False
    assert ask_one(hello, Ask(path="/model"), made).body == b"small True"


def test_the_state_is_told_to_the_server() -> None:
    """It is put into the lifespan scope, as the ASGI specification has it."""

    async def main() -> dict[str, object]:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        for kind in ("startup", "shutdown"):
            inbox.put_nowait({"type": f"lifespan.{kind}"})
        scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await deployed(hello, settings(lifespan=loading))(scope, inbox.get, send)
        assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        state: dict[str, object] = scope["state"]
        return state

    assert asyncio.run(main()) == {"model": "small"}


def test_built_in_endpoints_are_in_the_framework() -> None:
    """Route lists see them, and every request can go through Starlette with the same answer."""
    deployment = Deployment(hello, {}, layers=())
    runner = deployment.app_runner
    assert isinstance(runner, StarletteAppRunner)
    served = {
        (route.path, method)
        for route in runner.asgi_app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert {
        ("/invoke", "POST"),
        ("/health", "GET"),
        ("/health", "HEAD"),
        ("/docs", "GET"),
        ("/metrics", "GET"),
    } <= served


@pytest.mark.parametrize("app_kwargs", [{"titel": "x"}, {"debug": True, "on_startup": []}])
def test_arguments_that_starlette_does_not_take_are_refused(app_kwargs: dict[str, object]) -> None:
    """When the deployment is built, naming the setting and the argument."""
    with pytest.raises(DefinitionError, match=r"^app_kwargs raised TypeError: .*(titel|on_startup)"):
        deployed(hello, {"app_kwargs": app_kwargs})


@pytest.mark.parametrize("kind", ["typed", "request", "native"])
@pytest.mark.parametrize("through_framework", [False, True])
def test_a_client_that_leaves_is_no_failure(
    kind: str, through_framework: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the body when the client goes away, nothing is answered and nothing is logged."""

    async def read(request: Request) -> Response:
        await request.body()
        raise AssertionError("never reached")

    def typed(body: dict[str, int]) -> None:
        raise AssertionError("never reached")

    endpoint: dict[str, object] = {"path": "/read", "method": "POST", "handler": read if kind == "request" else typed}
    if kind == "native":
        endpoint = {"path": "/read", "handler": Route("/read", read, methods=["POST"]), "native": True}
    more = {"custom_middlewares": [{"middleware": Tagging, "native": True}]} if through_framework else {}
    app = deployed(hello, {"custom_endpoints": [endpoint], **more})
    sent: list[Message] = []

    async def main() -> None:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        inbox.put_nowait({"type": "http.disconnect"})

        async def send(message: Message) -> None:
            sent.append(message)

        await app(http_scope(Ask("POST", "/read", [(b"content-type", b"application/json")])), inbox.get, send)

    asyncio.run(main())
    assert not sent
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_native_function_middleware_survives_a_system_exit() -> None:
    """A handler's SystemExit would stop the server from inside a task of BaseHTTPMiddleware's; it ends as a 500."""

    async def leave(request: Request) -> Response:
        raise SystemExit(3)

    made = {
        "custom_endpoints": [{"path": "/leave", "handler": Route("/leave", leave), "native": True}],
        "custom_middlewares": [{"middleware": dispatching, "native": True}],
    }
    left, after = ask(hello, made, Ask(path="/leave"), Ask(path="/info"))
    assert (left.problem["status"], after.status) == (500, 200)


def test_middleware_that_comes_too_late_is_refused() -> None:
    """After the build it would see a part of the requests only: Starlette says so."""
    deployment = Deployment(hello, {}, layers=())
    app: Any = deployment.app_runner.asgi_app
    with pytest.raises(RuntimeError, match="Cannot add middleware"):
        app.add_middleware(Tagging)


def test_client_disconnect_of_starlettes_is_known() -> None:
    """The exception that `request.body()` raises is the one that is handled."""
    runner: Any = Deployment(hello, {}, layers=()).app_runner
    assert ClientDisconnect in runner.asgi_app.exception_handlers
