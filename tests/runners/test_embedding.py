"""A deployment inside a Starlette application of the user's, as an ASGI mount."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from asgipipe import Deployment, asgi, pipeline
from asgipipe.http.types import ASGIApp
from tests.http.wire import Ask, Reply, ask_app, handshake, invoke, reply, until, websocket_scope
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, PAGE, Tagging, hello, told

MANY = 50


class Counted:
    """A pipeline whose starts are counted; the first `failing` of them fail."""

    def __init__(self, failing: int = 0) -> None:
        self.starts = 0
        self.stops = 0
        self._failing = failing

    def app(self, **settings: object) -> ASGIApp:
        made = pipeline(on_init=self._start, on_cleanup=self._stop)(lambda: 1)
        return Deployment(made.with_options(name="counted"), settings, layers=()).asgi_app

    async def _start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        if self.starts <= self._failing:
            raise OSError("no model")

    def _stop(self) -> None:
        self.stops += 1


def host(app: ASGIApp, path: str = "/weather", **options: Any) -> Starlette:
    return Starlette(routes=[Route("/own", told), Mount(path, app=app)], **options)


def get(path: str, *headers: tuple[bytes, bytes], **scope: object) -> Ask:
    return Ask("GET", path, headers, scope=scope)


# Starting


def test_it_starts_on_the_first_request() -> None:
    """Starlette runs no lifespan of what it mounts, so the first request starts the deployment, once."""
    counted = Counted()

    async def main() -> list[Reply]:
        app = host(counted.app())
        before = await reply(app, get("/own"))
        assert counted.starts == 0
        return [before, *[await reply(app, invoke({}, path="/weather/invoke")) for _ in range(3)]]

    replies = asyncio.run(main())
    assert [each.status for each in replies] == [200] * 4
    assert counted.starts == 1


def test_concurrent_first_requests_start_it_once() -> None:
    """All of them wait for the one start, and all are answered."""
    counted = Counted()

    async def main() -> list[Reply]:
        app = host(counted.app())
        return await asyncio.gather(*(reply(app, invoke({}, path="/weather/invoke")) for _ in range(MANY)))

    assert [each.status for each in asyncio.run(main())] == [200] * MANY
    assert counted.starts == 1


def test_a_failing_start_is_a_503_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """All who waited for it are told alike, the log says once why, and the next request tries again."""
    counted = Counted(failing=1)

    async def main() -> tuple[list[Reply], Reply]:
        app = host(counted.app())
        first = await asyncio.gather(*(reply(app, invoke({}, path="/weather/invoke")) for _ in range(MANY)))
        return first, await reply(app, invoke({}, path="/weather/invoke"))

    first, second = asyncio.run(main())
    assert [each.status for each in first] == [503] * MANY
    assert first[0].problem["detail"] == "The deployment failed to start; its log says why."
    assert first[0].header(b"retry-after") == b"5"
    assert (second.status, counted.starts) == (200, 2)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the deployment did not start: on_init (_start) raised OSError: no model"
    ]


@asynccontextmanager
async def bad_lifespan(app: object) -> AsyncIterator[None]:
    raise LookupError("secret")
    yield


def test_a_failure_of_the_frameworks_own_start_is_a_503_too() -> None:
    """Not a 500: it is the deployment that did not start."""
    app = host(Deployment(hello, {"app_kwargs": {"lifespan": bad_lifespan}}, layers=()).asgi_app)
    failed = asyncio.run(reply(app, invoke({}, path="/weather/invoke")))
    assert failed.problem["status"] == 503
    assert b"secret" not in failed.body


def test_probes_before_the_first_start() -> None:
    """/health answers, /ready starts the deployment and is 200 when that is done; neither waits for it."""
    counted = Counted()

    async def main() -> None:
        app = host(counted.app())
        assert (await reply(app, get("/weather/health"))).status == 200
        assert counted.starts == 0
        first = await reply(app, get("/weather/ready"))
        assert first.problem["detail"] == "The deployment is starting."
        await until(lambda: counted.starts)
        assert (await reply(app, invoke({}, path="/weather/invoke"))).status == 200
        assert (await reply(app, get("/weather/ready"))).status == 200
        assert counted.starts == 1

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_probe_of_the_users_starts_the_deployment(path: str) -> None:
    """A sync handler in the place of a probe needs its threads: the deployment starts before it is called."""
    counted = Counted()
    app = host(counted.app(custom_endpoints=[{"path": path, "method": "GET", "handler": lambda: "fine"}]))
    assert asyncio.run(reply(app, get(f"/weather{path}"))).json() == "fine"
    assert counted.starts == 1


@pytest.mark.parametrize("path", ["/info", "/metrics", "/status", "/docs", "/openapi.json", "/", "/nowhere"])
def test_what_only_reads_answers_before_the_start(path: str) -> None:
    """The first request may be for any of these."""
    app = host(Counted().app())
    assert asyncio.run(reply(app, get(f"/weather{path}"))).status == (404 if path == "/nowhere" else 200)


def test_a_host_that_starts_it_itself_stops_it_itself() -> None:
    """`start` and `stop` in the host's lifespan; requests in between start nothing more."""
    counted = Counted()
    made = pipeline(on_init=counted._start, on_cleanup=counted._stop)(lambda: 1)
    deployment = Deployment(made.with_options(name="counted"), layers=())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        await deployment.start()
        yield {"of": "host"}
        await deployment.stop()

    (ran,) = ask_app(host(deployment.asgi_app, lifespan=lifespan), invoke({}, path="/weather/invoke"))
    assert ran.json()["success"] is True
    assert (counted.starts, counted.stops) == (1, 1)


# Paths


@pytest.mark.parametrize(
    ("mount", "root_path", "path"),
    [
        ("/weather", "", "/weather"),
        ("/a/b", "", "/a/b"),
        ("/{tenant}", "", "/acme"),
        ("/weather", "/proxy", "/proxy/weather"),  # as uvicorn has it: the root path is in the path
    ],
)
def test_paths_below_a_mount(mount: str, root_path: str, path: str) -> None:
    """Everything is below the prefix, also with a root_path in front; links of the pages are relative."""
    custom = [
        {"path": "/mine/{name}", "method": "GET", "handler": lambda name: name},
        {"path": "/n", "handler": Route("/n", told), "native": True},
        {"path": "/app", "handler": extras.plain_app, "native": True},
    ]
    app = host(asgi(hello, {"custom_endpoints": custom}), mount)
    asked = ["/health", "/docs", "/openapi.json", "/", "/mine/x", "/n", "/app", "/app/x", "/health/", "/nowhere"]
    replies = ask_app(app, *(get(f"{path}{one}", root_path=root_path) for one in asked))
    assert [each.status for each in replies] == [200] * 8 + [404] * 2
    assert replies[4].json() == "x"
    assert b'src="./docs/assets/' in replies[1].body or b'href="./docs/assets/' in replies[1].body


@pytest.mark.parametrize("through_framework", [False, True])
def test_keys_hold_below_a_mount(through_framework: bool) -> None:
    """Open paths are open below the prefix, everything else needs the key; the host's own routes are its own."""
    more = {"app_extensions": [{"extension": lambda app_runner: None}]} if through_framework else {}
    custom = [
        {"path": "/free", "handler": Route("/free", told), "native": True, "auth_required": False},
        {"path": "/n", "handler": Route("/n", told), "native": True},
    ]
    app = host(asgi(hello, {"auth_key": KEY, "custom_endpoints": custom, **more}))
    asked = [
        "/own",
        "/weather/health",
        "/weather/free",
        "/weather/",
        "/weather/n",
        "/weather/info",
        "/weather/own",
        "/weather//free",
    ]
    replies = ask_app(app, *map(get, asked), get("/weather/info", BEARER))
    assert [each.status for each in replies] == [200] * 4 + [401] * 4 + [200]


def test_nested_mounts_and_two_deployments() -> None:
    """The same pipeline twice, one inside a mount of a mount: each answers for itself."""
    first = asgi(hello, {"auth_key": KEY}, name="first")
    second = asgi(hello, name="second")
    app = Starlette(routes=[Mount("/a", routes=[Mount("/b", app=first)]), Mount("/c", app=second)])
    denied, granted, other = ask_app(app, get("/a/b/info"), get("/a/b/info", BEARER), get("/c/info"))
    assert denied.status == 401
    assert (granted.json()["deployment"]["name"], other.json()["deployment"]["name"]) == ("first", "second")


def test_a_websocket_below_a_mount() -> None:
    """Native WebSocket routes are found below the prefix, and guarded."""
    custom = [{"path": "/ws", "handler": WebSocketRoute("/ws", extras.echoed), "native": True}]
    app = host(asgi(hello, {"custom_endpoints": custom, "auth_key": KEY}))
    granted = asyncio.run(handshake(app, websocket_scope(get("/weather/ws", BEARER))))
    assert [message["type"] for message in granted.messages] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert granted.messages[1]["text"] == "/weather/ws"
    denied = asyncio.run(handshake(app, websocket_scope(get("/weather/ws"))))
    assert [message["type"] for message in denied.messages] == ["websocket.close"]


# The host stays as it is


async def failing(request: Request) -> Response:
    raise LookupError("of the host")


def on_lookup_error(request: Request, error: Exception) -> Response:
    return PlainTextResponse("handled by the host", 418)


async def raising(request: Request) -> Response:
    raise LookupError("of the deployment")


def test_the_hosts_handlers_middleware_and_state_stay_its_own() -> None:
    """Neither side's exception handlers see the other's errors; the host's middleware sees all its requests."""
    custom = [{"path": "/raising", "method": "GET", "handler": raising}]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        yield {"who": "host"}

    app = host(
        asgi(hello, {"custom_endpoints": custom}),
        exception_handlers={LookupError: on_lookup_error},
        middleware=[Middleware(Tagging)],
        lifespan=lifespan,
    )
    app.router.routes.append(Route("/failing", failing))
    own, inner, page = ask_app(app, get("/failing"), get("/weather/raising"), get("/weather/x", PAGE))
    assert own.body == b"handled by the host"
    assert inner.problem["type"] == "urn:asgipipe:internal"
    assert [each.all(b"x-passed") for each in (own, inner, page)] == [[b"class"]] * 3
    assert own.header(b"x-frame-options") is None
    assert inner.header(b"x-frame-options") == b"DENY"


def test_a_deployment_inside_a_deployment() -> None:
    """One deployment as the native endpoint of another: both answer, each with its own key and headers once."""
    inner = Deployment(hello, {"auth_key": "inner"}, layers=()).asgi_app
    outer = {"auth_key": "outer", "custom_endpoints": [{"path": "/in", "handler": inner, "native": True}]}
    app = Deployment(hello, outer, layers=()).asgi_app

    async def main() -> list[Reply]:
        key = (b"authorization", b"Bearer outer")
        return [
            await reply(app, invoke({}, key)),
            await reply(app, invoke({}, key, path="/in/invoke")),
            await reply(app, get("/in/health", key)),
            await reply(app, invoke({}, path="/in/invoke")),
        ]

    replies = asyncio.run(main())
    assert [each.status for each in replies] == [200, 401, 200, 401]
    for each in replies:
        assert each.header(b"x-request-id") is not None
        assert each.header(b"server") == b"asgipipe"
