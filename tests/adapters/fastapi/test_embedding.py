"""A deployment inside an application of FastAPI's: mounted, and as routes of the application's own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from openapi_spec_validator import validate
from pydantic import BaseModel

from asgipipe import Deployment, asgi, pipeline
from asgipipe.errors import DefinitionError, StartupError
from asgipipe_fastapi import mount, router
from tests.http.wire import Ask, Reply, ask_app, handshake, invoke, reply, websocket_scope
from tests.runners.extras import BEARER, KEY, hello, plain_app

TOKEN = (b"x-token", b"good")


class Refused(Exception):
    pass


async def check(x_token: Annotated[str, Header()] = "") -> str:
    if x_token != "good":
        raise Refused
    return x_token


class Tree(BaseModel):
    """Refers to itself."""

    name: str
    children: "list[Tree]" = []


@pipeline
async def grow(tree: Tree) -> Tree:
    return tree


class Counted:
    """A deployment whose starts and stops are noted."""

    def __init__(self) -> None:
        self.events: list[str] = []
        note = self.events.append
        made = pipeline(on_init=lambda: note("start"), on_cleanup=lambda: note("stop"))(lambda: 1)
        self.deployment = Deployment(made.with_options(name="counted"), {}, layers=())

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        self.events.append("host start")
        yield
        self.events.append("host stop")


def host(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/own")
    async def own() -> str:
        return "of the host"

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Exception) -> Response:
        return PlainTextResponse("the host says no", 403)

    return app


def accepted(app: Any, path: str, *headers: tuple[bytes, bytes]) -> bool:
    answered = asyncio.run(handshake(app, websocket_scope(Ask("GET", path, headers))))
    return answered.messages[0]["type"] == "websocket.accept"


def place(name: str, value: int) -> str:
    return f"{name}={value}"


def below(rest: str) -> str:
    return rest


ENDPOINTS = {
    "custom_endpoints": [
        {"path": "/place/{name}/{value}", "method": "GET", "handler": place},
        {"path": "/below/{rest:path}", "method": "GET", "handler": below},
        {"path": "/app", "handler": plain_app, "native": True},
    ]
}

# Included


def test_the_dependencies_of_the_include_guard_everything() -> None:
    """Endpoints, what is at no endpoint, other methods, native mounts and WebSockets; the refusal is the host's own."""

    def guarded() -> FastAPI:
        app = host()
        app.include_router(router(hello, ENDPOINTS), prefix="/w", dependencies=[Depends(check)])
        return app

    paths = ["", "/", "/info", "/health", "/docs", "/place/a/1", "/below/x/y", "/app", "/nowhere", "/health/"]
    asked = [Ask(method, f"/w{path}") for path in paths for method in ("GET", "HEAD", "OPTIONS", "POST", "BREW")]
    for answered in ask_app(guarded(), *asked):
        assert answered.status == 403
        assert answered.body in {b"the host says no", b""}
    assert not accepted(guarded(), "/w/app")
    assert accepted(guarded(), "/w/app", TOKEN)


def test_behind_them_all_is_as_it_is_alone() -> None:
    """Answers, refusals and headers of a deployment, at a prefix of more than one segment."""
    app = host()
    app.include_router(router(hello, ENDPOINTS), prefix="/a/b", dependencies=[Depends(check)])
    alone = Deployment(hello, {**ENDPOINTS, "deployment_app_runner_flavor": "fastapi"}, layers=()).asgi_app
    asked = [
        Ask("GET", "/health"),
        Ask("HEAD", "/health"),
        Ask("PUT", "/health"),
        Ask("GET", "/place/a/7"),
        Ask("GET", "/place/a/x"),
        Ask("GET", "/below/x/y//z/"),
        Ask("GET", "/below/"),
        Ask("GET", "/health/"),
        Ask("GET", "/nowhere"),
        Ask("BREW", "/invoke"),
        invoke({"parameters": {"name": 1}}),
        invoke(b"{"),
    ]
    inside = [Ask(each.method, f"/a/b{each.path}", [TOKEN, *each.headers], each.body) for each in asked]
    for ours, expected in zip(ask_app(app, *inside), ask_app(alone, *asked), strict=True):
        assert (ours.status, ours.header(b"allow")) == (expected.status, expected.header(b"allow"))
        assert sorted(name for name, _ in ours.headers) == sorted(name for name, _ in expected.headers)
        if b"uptime" not in expected.body:
            assert ours.body == expected.body


@pytest.mark.parametrize("prefix", ["", "/w", "/w/x"])
@pytest.mark.parametrize("root_path", ["", "/proxy"])
@pytest.mark.parametrize("complete", [True, False])
def test_links_lead_below_the_prefix(prefix: str, root_path: str, complete: bool) -> None:
    """Behind a proxy too, whether the server's paths begin with `root_path` or not."""
    app = host(openapi_url=None)
    app.include_router(router(hello), prefix=prefix)
    path = f"{root_path if complete else ''}{prefix}/openapi.json"
    (document,) = ask_app(app, Ask(path=path, scope={"root_path": root_path}))
    assert document.json()["servers"] == [{"url": f"{root_path}{prefix}" or "/"}]


def test_paths_that_only_begin_alike_are_the_hosts() -> None:
    """`/weathers` is not below `/weather`; `/weather` itself is the deployment's, and is not redirected."""
    app = host()
    app.include_router(router(hello), prefix="/weather")
    similar, itself = ask_app(app, Ask(path="/weathers"), Ask("POST", "/weather"))
    assert similar.json() == {"detail": "Not Found"}
    assert itself.problem["status"] == 404


def test_included_twice_it_starts_once() -> None:
    """The starts are counted, and the deployment starts after the host and stops before it."""
    counted = Counted()
    app = host(lifespan=counted.lifespan)
    included = router(counted.deployment)
    app.include_router(included, prefix="/one")
    app.include_router(included, prefix="/two")
    replies = ask_app(app, *(invoke({}, path=f"/{each}/invoke") for each in ("one", "two")))
    assert [each.status for each in replies] == [200, 200]
    assert counted.events == ["host start", "start", "stop", "host stop"]


def test_included_in_a_router_that_is_included() -> None:
    """Prefixes add up, and so do dependencies."""
    outer = APIRouter(prefix="/outer", dependencies=[Depends(check)])
    outer.include_router(router(hello), prefix="/inner")
    app = host()
    app.include_router(outer, prefix="/api")
    refused, answered, document = ask_app(
        app,
        invoke({}, path="/api/outer/inner/invoke"),
        invoke({}, TOKEN, path="/api/outer/inner/invoke"),
        Ask(path="/api/outer/inner/openapi.json", headers=[TOKEN]),
    )
    assert (refused.status, answered.status) == (403, 200)
    assert document.json()["servers"] == [{"url": "/api/outer/inner"}]


def test_below_a_prefix_with_a_parameter() -> None:
    """The part that the parameter took belongs to the prefix."""
    app = host()
    app.include_router(router(hello, ENDPOINTS), prefix="/{tenant}/weather")
    answered, document = ask_app(app, Ask(path="/ada/weather/below/x/y"), Ask(path="/ada/weather/openapi.json"))
    assert answered.json() == "x/y"
    assert document.json()["servers"] == [{"url": "/ada/weather"}]


def test_overrides_of_the_host_work() -> None:
    """`dependency_overrides`, as the host's tests use it, hold for the dependencies of the include."""
    app = host()
    app.include_router(router(hello), prefix="/w", dependencies=[Depends(check)])
    app.dependency_overrides[check] = lambda: "good"
    assert ask_app(app, Ask(path="/w/info"))[0].status == 200


def test_dependencies_with_yield_stay_open_until_the_end() -> None:
    """What the host opens for a request is closed after the deployment has answered."""
    seen: list[str] = []

    async def opened() -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("closed")

    def handler() -> str:
        seen.append("answered")
        return ""

    app = host()
    settings = {"custom_endpoints": [{"path": "/x", "method": "GET", "handler": handler}]}
    app.include_router(router(hello, settings), prefix="/w", dependencies=[Depends(opened)])
    ask_app(app, Ask(path="/w/x"))
    assert seen == ["open", "answered", "closed"]


def test_reading_the_body_in_a_dependency_leaves_it_there() -> None:
    """The deployment gets the same bytes."""

    async def signed(request: Request) -> None:
        if b"Ada" not in await request.body():
            raise HTTPException(403)

    app = host()
    app.include_router(router(hello), prefix="/w", dependencies=[Depends(signed)])
    (answered,) = ask_app(app, invoke({"parameters": {"name": "Ada"}}, path="/w/invoke"))
    assert answered.json()["outputs"] == {"output": "Hello, Ada!"}


def test_routes_have_names() -> None:
    """`url_path_for` of the host finds them."""
    app = host()
    app.include_router(router(hello), prefix="/w")
    assert app.url_path_for("invoke") == "/w/invoke"


# The host's OpenAPI document


def test_the_hosts_document_describes_the_endpoints() -> None:
    """It is valid, without a warning, with two deployments and one of them included twice; the schemas are ours."""
    app = host()
    twice = router(hello, ENDPOINTS)
    app.include_router(twice, prefix="/w")
    app.include_router(twice, prefix="/again", dependencies=[Depends(check)])
    app.include_router(router(grow, {"auth_key": KEY}), prefix="/grow")
    document = json.loads(json.dumps(app.openapi()))
    validate(document)
    run = document["paths"]["/w/invoke"]["post"]
    request = run["requestBody"]["content"]["application/json"]["schema"]
    assert request["properties"]["parameters"]["anyOf"][0]["properties"]["name"]["type"] == "string"
    envelope = run["responses"]["200"]["content"]["application/json"]["schema"]
    assert envelope["properties"]["outputs"]["properties"]["output"]["type"] == "string"
    assert run["responses"]["422"]["content"]["application/problem+json"]["schema"] == {
        "$ref": "#/components/schemas/ValidationProblem"
    }
    custom = document["paths"]["/w/place/{name}/{value}"]["get"]["parameters"]
    assert {(each["name"], each["in"]) for each in custom} == {("name", "path"), ("value", "path")}
    assert document["paths"]["/grow/invoke"]["post"]["security"] == [{"DeploymentKey": []}]
    assert "security" not in document["paths"]["/grow/health"]["get"]
    assert not [path for path in document["paths"] if "docs" in path or "path_below" in path]


def test_a_schema_that_refers_to_itself_is_written_out_once() -> None:
    """What is further in may be anything."""
    app = host()
    app.include_router(router(grow), prefix="/grow")
    validate(json.loads(json.dumps(app.openapi())))
    body = app.openapi()["paths"]["/grow/invoke"]["post"]["requestBody"]
    tree = body["content"]["application/json"]["schema"]["properties"]["parameters"]["properties"]["tree"]
    assert tree["properties"]["children"]["items"] == {}


def test_every_operation_has_its_own_id() -> None:
    """As FastAPI makes them, of name and path."""
    app = host()
    for prefix in ("/one", "/two"):
        app.include_router(router(hello, ENDPOINTS), prefix=prefix)
    ids = [operation["operationId"] for path in app.openapi()["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


# Mounted


def test_custom_endpoints_get_fastapis_types() -> None:
    """The deployment in an application of FastAPI's is run by FastAPI, mounted or included."""

    async def handler(x_token: Annotated[str, Depends(check)]) -> str:
        return x_token

    settings = {"custom_endpoints": [{"path": "/x", "method": "GET", "handler": handler}]}
    app = host()
    mount(app, "/mounted", hello, settings)
    app.include_router(router(hello, settings), prefix="/included")
    for prefix in ("/mounted", "/included"):
        assert ask_app(app, Ask(path=f"{prefix}/x", headers=[TOKEN]))[0].json() == "good"


def test_mounted_it_starts_after_the_host_and_stops_before_it() -> None:
    """Also when the lifespan of a router is merged in later, and with a deployment at two paths."""
    counted = Counted()
    app = host()
    for path in ("/one", "/two"):
        mount(app, path, counted.deployment)
    app.include_router(APIRouter(lifespan=counted.lifespan))
    assert [each.status for each in ask_app(app, Ask(path="/one/health"), Ask(path="/two/health"))] == [200, 200]
    assert counted.events.count("start") == counted.events.count("stop") == 1


def test_a_catch_all_of_the_hosts_leaves_it_alone() -> None:
    """A page for every path, as of a single-page application, does not take the requests below the mount."""
    app = host()

    @app.get("/{path:path}")
    async def page(path: str) -> str:
        return "page"

    mount(app, "/weather", hello)
    weather, other = ask_app(app, Ask(path="/weather/ready"), Ask(path="/anything"))
    assert (weather.json(), other.json()) == ({"status": "ready"}, "page")


def test_without_our_helper() -> None:
    """With `app.mount` the first request starts the deployment; its path without a slash Starlette redirects."""
    counted = Counted()
    app = host(lifespan=counted.lifespan)
    app.mount("/weather", counted.deployment.asgi_app)
    answered, redirected = ask_app(app, invoke({}, path="/weather/invoke"), Ask(path="/weather"))
    assert (answered.status, redirected.status) == (200, 307)
    assert counted.events[:2] == ["host start", "start"]


def test_asgi_in_a_mount() -> None:
    """`app.mount(path, asgi(target))`, as a user would write it first."""
    app = host()
    app.mount("/weather", asgi(hello, {"auth_key": KEY}))
    refused, answered = ask_app(app, invoke({}, path="/weather/invoke"), invoke({}, BEARER, path="/weather/invoke"))
    assert (refused.status, answered.status) == (401, 200)


@pytest.mark.parametrize("form", ["mount", "include"])
def test_the_host_stays_as_it_is(form: str) -> None:
    """Its 404, 405 and 422, its handlers of exceptions and its document are those it had before."""
    before, after = host(), host()
    if form == "mount":
        mount(after, "/weather", hello, {"auth_key": KEY})
    else:
        after.include_router(router(hello, {"auth_key": KEY}), prefix="/weather")
    asked = [Ask(path="/own"), Ask("POST", "/own"), Ask(path="/nowhere"), Ask(path="/own/"), Ask(path="/docs")]
    had, has = ask_app(before, *asked), ask_app(after, *asked)
    assert [(each.status, each.headers, each.body) for each in had] == [
        (each.status, each.headers, each.body) for each in has
    ]
    assert after.openapi()["paths"]["/own"] == before.openapi()["paths"]["/own"]


def test_a_failed_start_of_a_mount_fails_the_host() -> None:
    """A host that starts with its deployments broken would not be told before the first request."""

    def fail() -> None:
        raise OSError("no model")

    app = host()
    mount(app, "/weather", pipeline(on_init=fail)(lambda: 1).with_options(name="failing"))
    with pytest.raises(StartupError, match="no model"):
        ask_app(app, Ask(path="/own"))


def test_what_is_no_path_is_refused() -> None:
    """With the way out."""
    with pytest.raises(DefinitionError, match="'weather' is no place to mount a deployment at; give a path such as"):
        mount(host(), "weather", hello)


def test_concurrent_first_requests_without_a_lifespan() -> None:
    """A server that sends no lifespan events: the deployment starts once, whatever the form."""

    async def main(app: FastAPI) -> list[Reply]:
        asked = [invoke({}, path="/w/invoke") for _ in range(20)]
        return await asyncio.gather(*(reply(app, each) for each in asked))

    for form in ("mount", "include"):
        counted = Counted()
        app = host()
        if form == "mount":
            mount(app, "/w", counted.deployment)
        else:
            app.include_router(router(counted.deployment), prefix="/w")
        assert {each.status for each in asyncio.run(main(app))} == {200}
        assert counted.events.count("start") == 1
