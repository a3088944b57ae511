"""A deployment inside an application of Starlette's: with `mount`, and as routes of the application's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from asgipipe import Deployment, pipeline
from asgipipe.errors import DefinitionError, StartupError
from asgipipe.runners.starlette import mount, router
from tests.http.wire import Ask, Reply, ask_app, handshake, invoke, reply, websocket_scope
from tests.runners.extras import BEARER, KEY, Tagging, dispatching, hello, plain_app, told

PROXY = {"root_path": "/proxy"}


class Counted:
    """A deployment, and a host's lifespan, whose starts and stops are noted."""

    def __init__(self) -> None:
        self.events: list[str] = []
        note = self.events.append
        made = pipeline(on_init=lambda: note("start"), on_cleanup=lambda: note("stop"))(lambda: 1)
        self.deployment = Deployment(made.with_options(name="counted"), {}, layers=())

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        self.events.append("host start")
        try:
            yield {"database": "open"}
        finally:
            self.events.append("host stop")


def host(**options: Any) -> Starlette:
    return Starlette(routes=[Route("/own", told)], **options)


def included(app: Starlette, path: str, *args: Any) -> None:
    made = router(*args)
    app.router.routes.append(Mount(path, routes=made.routes))


# The lifespan


def test_it_starts_after_the_host_and_stops_before_it() -> None:
    """Once, however many paths the deployment is at, and the state of the host is as it was."""
    counted = Counted()
    app = host(lifespan=counted.lifespan)
    for path in ("/one", "/two"):
        assert mount(app, path, counted.deployment) is counted.deployment
    state: dict[str, object] = {}
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    for kind in ("startup", "shutdown"):
        inbox.put_nowait({"type": f"lifespan.{kind}"})

    async def send(message: object) -> None:
        counted.events.append("told")

    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, inbox.get, send))
    assert counted.events == ["host start", "start", "told", "stop", "host stop", "told"]
    assert state == {"database": "open"}


def test_two_deployments_in_one_host() -> None:
    """Each starts and stops, the later one inside the earlier one."""
    one, two = Counted(), Counted()
    app = host()
    mount(app, "/one", one.deployment)
    mount(app, "/two", two.deployment)
    replies = ask_app(app, invoke({}, path="/one/invoke"), invoke({}, path="/two/invoke"), Ask(path="/own"))
    assert [each.status for each in replies] == [200] * 3
    assert one.events == two.events == ["start", "stop"]


def test_without_a_lifespan_the_first_request_starts_it() -> None:
    """In a host that is mounted itself, and under a server that sends no lifespan events; once, with many at a time."""
    counted = Counted()
    inner = host()
    mount(inner, "/weather", counted.deployment)
    app = Starlette(routes=[Mount("/outer", app=inner)])

    async def main() -> list[Reply]:
        asked = [invoke({}, path="/outer/weather/invoke") for _ in range(20)]
        return await asyncio.gather(*(reply(app, each) for each in asked))

    assert {each.status for each in asyncio.run(main())} == {200}
    assert counted.events.count("start") == 1


def test_in_an_application_that_runs_already() -> None:
    """Its lifespan cannot be changed any more; the first request starts the deployment."""
    counted = Counted()
    app = host(lifespan=counted.lifespan)

    async def add(request: Request) -> Response:
        mount(app, "/weather", counted.deployment)
        return PlainTextResponse("added")

    app.router.routes.append(Route("/add", add))
    added, answered = ask_app(app, Ask(path="/add"), invoke({}, path="/weather/invoke"))
    assert (added.body, answered.status) == (b"added", 200)
    assert counted.events[:2] == ["host start", "start"]


def test_a_start_that_fails_ends_the_hosts() -> None:
    """The server is told, and what the host has opened is closed."""
    counted = Counted()

    def fail() -> None:
        raise OSError("no model")

    app = host(lifespan=counted.lifespan)
    mount(app, "/weather", pipeline(on_init=fail)(lambda: 1).with_options(name="failing"))

    with pytest.raises(StartupError, match="no model"):
        ask_app(app, Ask(path="/own"))
    assert counted.events == ["host start", "host stop"]


def test_the_routers_lifespan() -> None:
    """Given to the application, the deployment starts and stops with it."""
    counted = Counted()
    made = router(counted.deployment)
    app = Starlette(routes=[Mount("/weather", routes=made.routes)], lifespan=made.lifespan_context)
    assert ask_app(app, invoke({}, path="/weather/invoke"))[0].status == 200
    assert counted.events == ["start", "stop"]


def test_the_router_alone() -> None:
    """It is an ASGI application with a lifespan."""
    counted = Counted()
    assert ask_app(router(counted.deployment), invoke({}))[0].status == 200
    assert counted.events == ["start", "stop"]


# Paths


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("route", [Mount("/", app=plain_app), Route("/{path:path}", told)])
def test_the_order_of_routes_does_not_matter(before: bool, route: Any) -> None:
    """What takes all paths takes none below the mount, wherever it stands; others keep their order."""
    app = host()
    if before:
        app.router.routes.append(route)
    mount(app, "/weather", hello)
    if not before:
        app.router.routes.append(route)
    weather, itself, own, other = ask_app(
        app, Ask(path="/weather/ready"), Ask("POST", "/weather"), Ask(path="/own"), Ask(path="/else")
    )
    assert weather.json() == {"status": "ready"}
    assert itself.problem["status"] == 404
    assert (own.body, other.status) == (b"GET /own", 200)


def test_a_route_of_the_hosts_below_the_mount_stays() -> None:
    """What was there before is what the host wants there."""
    app = Starlette(routes=[Route("/weather/own", told)])
    mount(app, "/weather", hello)
    own, info = ask_app(app, Ask(path="/weather/own"), Ask(path="/weather/info"))
    assert (own.body, info.status) == (b"GET /weather/own", 200)


@pytest.mark.parametrize("path", ["weather", "", "/", "/{city}", "//x"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """When it is mounted."""
    with pytest.raises(DefinitionError, match="is no place to mount a deployment at; give a path such as '/weather'"):
        mount(host(), path, hello)


@pytest.mark.parametrize("form", ["mount", "include"])
@pytest.mark.parametrize("root_path", ["", "/proxy", "/proxy/"])
@pytest.mark.parametrize("complete", [True, False])
def test_links_lead_below_the_prefix(form: str, root_path: str, complete: bool) -> None:
    """Whether a server's paths begin with `root_path`, as uvicorn's do, or not, as those of hypercorn."""
    app = host()
    if form == "mount":
        mount(app, "/weather", hello)
    else:
        included(app, "/weather", hello)
    path = f"{root_path.rstrip('/') if complete else ''}/weather/openapi.json"
    (document,) = ask_app(app, Ask(path=path, scope={"root_path": root_path.rstrip("/")}))
    assert document.json()["servers"] == [{"url": f"{root_path.rstrip('/')}/weather"}]


@pytest.mark.parametrize("root_path", ["", "/proxy"])
def test_mounts_in_mounts(root_path: str) -> None:
    """Prefixes add up; bare paths Starlette itself does not find two deep."""
    inner = host()
    mount(inner, "/inner", hello)
    app = Starlette(routes=[Mount("/outer", app=inner)])
    (document,) = ask_app(app, Ask(path=f"{root_path}/outer/inner/openapi.json", scope={"root_path": root_path}))
    assert document.json()["servers"] == [{"url": f"{root_path}/outer/inner"}]


def test_routes_have_names() -> None:
    """Of the host's own `url_path_for`."""
    app = host()
    mount(app, "/weather", hello, name="weather")
    made = router(hello)
    app.router.routes.append(Mount("/digest", routes=made.routes, name="digest"))
    assert app.url_path_for("weather", path="invoke") == "/weather/invoke"
    assert app.url_path_for("digest:invoke") == "/digest/invoke"


# What is behind


@pytest.mark.parametrize("form", ["mount", "include"])
def test_all_is_as_it_is_alone(form: str) -> None:
    """Refusals, methods and headers; WebSockets too."""
    settings = {"auth_key": KEY, "custom_endpoints": [{"path": "/app", "handler": plain_app, "native": True}]}

    def made() -> Starlette:
        app = host()
        if form == "mount":
            mount(app, "/w", hello, settings)
        else:
            included(app, "/w", hello, settings)
        return app

    health, head, closed, wrong, unknown, answered, native = ask_app(
        made(),
        Ask(path="/w/health"),
        Ask("HEAD", "/w/health"),
        invoke({}, path="/w/invoke"),
        Ask("PUT", "/w/invoke", [BEARER]),
        Ask(path="/w/nowhere", headers=[BEARER]),
        invoke({}, BEARER, path="/w/invoke"),
        Ask(path="/w/app", headers=[BEARER]),
    )
    assert [each.status for each in (health, head, closed, answered, native)] == [200, 200, 401, 200, 200]
    assert (wrong.header(b"allow"), unknown.problem["status"]) == (b"POST", 404)
    assert native.body == b"GET /w/app"
    for headers, opened in (((), False), ((BEARER,), True)):
        answer = asyncio.run(handshake(made(), websocket_scope(Ask("GET", "/w/app", headers))))
        assert (answer.messages[0]["type"] == "websocket.accept") is opened


def test_url_for_finds_the_deployments_own_routes() -> None:
    """A native handler is given its address below the mount."""

    async def where(request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("where")))

    app = host()
    settings = {"custom_endpoints": [{"path": "/where", "handler": Route("/where", where), "native": True}]}
    mount(app, "/weather", hello, settings)
    (answered,) = ask_app(app, Ask(path="/proxy/weather/where", scope=PROXY))
    assert answered.body == b"http://testserver/proxy/weather/where"


@pytest.mark.parametrize("form", ["mount", "include"])
def test_the_host_stays_as_it_is(form: str) -> None:
    """Its 404, its redirects and its middleware."""
    before, after = host(), host()
    if form == "mount":
        mount(after, "/weather", hello, {"auth_key": KEY})
    else:
        included(after, "/weather", hello, {"auth_key": KEY})
    asked = [Ask(path="/own"), Ask("POST", "/own"), Ask(path="/nowhere"), Ask(path="/own/")]
    had, has = ask_app(before, *asked), ask_app(after, *asked)
    assert [(each.status, each.headers, each.body) for each in had] == [
        (each.status, each.headers, each.body) for each in has
    ]


def test_settings_beside_a_deployment_are_refused() -> None:
    """It has its own."""
    with pytest.raises(DefinitionError, match="has its settings and name already"):
        mount(host(), "/weather", Deployment(hello, {}, layers=()), {"auth_key": KEY})


@pytest.mark.parametrize("middleware", [Tagging, dispatching])
def test_a_stream_that_breaks_off_does_not_look_complete(middleware: object) -> None:
    """Through native middleware: that of a function ends every stream it passes on."""

    async def breaking() -> AsyncIterator[str]:
        yield "begun"
        raise LookupError

    settings = {
        "custom_endpoints": [{"path": "/breaking", "method": "GET", "handler": breaking}],
        "custom_middlewares": [{"middleware": middleware, "native": True}],
    }
    app = host()
    mount(app, "/weather", hello, settings)
    (answered,) = ask_app(app, Ask(path="/weather/breaking"))
    assert (answered.status, answered.body, answered.complete) == (200, b"begun", False)
