"""Handlers that ask for FastAPI's own types: FastAPI calls them, and what it refuses looks like ours."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

pytest.importorskip("fastapi")

from fastapi import BackgroundTasks, Cookie, Depends, Header, HTTPException, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from tests.http.wire import Ask, Reply, ask, deployed, invoke
from tests.runners.extras import hello

CANARY = "canary-in-the-input"


class City(BaseModel):
    name: str
    population: float


def served(*asked: Ask, handler: object, method: str = "POST", **settings: object) -> list[Reply]:
    """Ask a deployment whose `/x` is `handler`; further settings of the endpoint's begin with `endpoint_`."""
    own = {name.removeprefix("endpoint_"): settings.pop(name) for name in [*settings] if name.startswith("endpoint_")}
    endpoint = {"path": "/x", "method": method, "handler": handler, **own}
    made = {"deployment_app_runner_flavor": "fastapi", "custom_endpoints": [endpoint], **settings}
    return ask(hello, made, *asked)


def by_framework(city: City, request: Request) -> City:
    return city


def by_core(city: City) -> City:
    return city


async def authorised(x_token: Annotated[str, Header()] = "") -> str:
    if x_token != "good":
        raise HTTPException(403, "a token, please", headers={"x-why": "token"})
    return x_token


def test_parameters_of_every_kind_are_fastapis() -> None:
    """Header, cookie, query, dependency, response and background tasks arrive as in an application of FastAPI's."""
    done: list[str] = []

    async def handler(
        response: Response,
        tasks: BackgroundTasks,
        token: Annotated[str, Depends(authorised)],
        agent: Annotated[str, Header(alias="user-agent")],
        taste: Annotated[str, Cookie()],
        many: Annotated[list[int], Query()],
    ) -> dict[str, object]:
        response.headers["x-own"] = "yes"
        tasks.add_task(done.append, "later")
        return {"token": token, "agent": agent, "taste": taste, "many": many}

    headers = [(b"x-token", b"good"), (b"user-agent", b"test"), (b"cookie", b"taste=sweet")]
    (answered,) = served(Ask(path="/x?many=1&many=2", headers=headers), handler=handler, method="GET")
    assert answered.json() == {"token": "good", "agent": "test", "taste": "sweet", "many": [1, 2]}
    assert (answered.header(b"x-own"), done) == (b"yes", ["later"])


def test_options_of_the_route_reach_fastapi() -> None:
    """`extra_kwargs` are those of `add_api_route`."""

    async def handler(request: Request) -> dict[str, object]:
        return {"name": "Rome", "population": 3, "secret": 1}

    extra = {"response_model": City, "status_code": 201}
    (answered,) = served(invoke({}, path="/x"), handler=handler, endpoint_extra_kwargs=extra)
    assert (answered.status, answered.json()) == (201, {"name": "Rome", "population": 3.0})


@pytest.mark.parametrize(
    "extra", [{"status_code": 201}, {"response_model": City}, {"response_model_exclude_none": True}]
)
def test_options_without_effect_are_refused(extra: dict[str, object]) -> None:
    """What FastAPI would do with a result is no option of a handler that the core calls."""
    with pytest.raises(DefinitionError, match=r"endpoint POST /x: extra_kwargs: .* is for handlers that FastAPI calls"):
        served(handler=by_core, endpoint_extra_kwargs=extra)


BODIES: dict[str, bytes] = {
    "valid": b'{"name":"Rome","population":3}',
    "missing": b'{"name":"Rome"}',
    "wrong": b'{"name":["%s"],"population":[]}' % CANARY.encode(),
    "nan": b'{"name":"Rome","population":NaN}',
    "infinite": b'{"name":"Rome","population":1e400}',
    "cut": b'{"name":',
    "latin": b'{"name":"R\xf6m","population":1}',
    "utf16": '{"name":"Rome","population":3}'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "none": b"",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_refused_alike(name: str) -> None:
    """A body gets the same status and problem from a handler of FastAPI's as from one of ours, and is never echoed."""
    asked = invoke(BODIES[name], path="/x")
    (theirs,), (ours,) = (served(asked, handler=handler) for handler in (by_framework, by_core))
    assert theirs.status == ours.status
    assert CANARY.encode() not in theirs.body
    if theirs.status != 200:
        assert theirs.problem["type"] == ours.problem["type"]
        assert [error["type"] for error in theirs.problem.get("errors", ())] == [
            error["type"] for error in ours.problem.get("errors", ())
        ]
        assert sorted(name for name, _ in theirs.headers) == sorted(name for name, _ in ours.headers)


def test_parameters_are_refused_without_the_input() -> None:
    """A query and a header that do not fit are a 422 with the place of each."""

    async def handler(request: Request, number: int, x_size: Annotated[int, Header()]) -> None:
        raise AssertionError("never called")

    asked = Ask(path=f"/x?number={CANARY}", headers=[(b"x-size", CANARY.encode())])
    (refused,) = served(asked, handler=handler, method="GET")
    assert [error["loc"] for error in refused.problem["errors"]] == [["query", "number"], ["header", "x-size"]]
    assert CANARY.encode() not in refused.body


def test_exceptions_of_fastapi_are_problems() -> None:
    """HTTPException of a dependency keeps its status, detail and headers; anything else is a 500 that says nothing."""

    async def handler(token: Annotated[str, Security(authorised)]) -> None:
        raise LookupError(CANARY)

    forbidden, failed = served(
        Ask(path="/x"), Ask(path="/x", headers=[(b"x-token", b"good")]), handler=handler, method="GET"
    )
    assert (forbidden.problem["detail"], forbidden.header(b"x-why")) == ("a token, please", b"token")
    assert (failed.problem["status"], failed.problem["type"]) == (500, "urn:asgipipe:internal")
    assert CANARY.encode() not in failed.body


def test_a_result_that_is_not_what_was_declared_is_a_500() -> None:
    """FastAPI's own check of a result fails inside; the client is told nothing about it."""

    async def handler(request: Request) -> City:
        return {"name": CANARY}  # type: ignore[return-value]  # that is the point

    (failed,) = served(Ask(path="/x"), handler=handler, method="GET")
    assert failed.problem["status"] == 500
    assert CANARY.encode() not in failed.body


def test_exception_handlers_of_app_kwargs_come_first() -> None:
    """Whoever gives FastAPI a handler for its validation errors gets them."""

    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse("mine", 418)

    (refused,) = served(
        invoke({}, path="/x"),
        handler=by_framework,
        app_kwargs={"exception_handlers": {RequestValidationError: mine}},
    )
    assert (refused.status, refused.body) == (418, b"mine")


def test_plain_functions_run_in_the_deployments_threads() -> None:
    """Not in those of anyio's limiter, which are the host's."""
    names: list[str] = []

    def handler(request: Request) -> None:
        names.append(threading.current_thread().name)

    served(Ask(path="/x"), handler=handler, method="GET")
    assert names
    assert names[0].startswith("asgipipe-hello")


@pytest.mark.parametrize("place", ["handler", "dependency"])
def test_the_deadline_holds(place: str) -> None:
    """For a handler and for its dependencies, async or not."""

    def slow(request: Request) -> None:
        if place == "handler":
            time.sleep(0.5)

    async def slow_dependency() -> None:
        if place == "dependency":
            await asyncio.sleep(30)

    def handler(request: Request, given: Annotated[None, Depends(slow_dependency)]) -> None:
        slow(request)

    (late,) = served(Ask(path="/x"), handler=handler, method="GET", request_timeout=0.05)
    assert (late.problem["status"], late.problem["type"]) == (504, "urn:asgipipe:deadline")


def test_a_time_out_of_the_handlers_own_is_no_deadline() -> None:
    """A handler that raises TimeoutError failed."""

    async def handler(request: Request) -> None:
        raise TimeoutError

    assert served(Ask(path="/x"), handler=handler, method="GET", request_timeout=5)[0].status == 500


def test_system_exit_does_not_reach_the_server() -> None:
    """In a handler, on the loop and in a thread."""

    async def leaves(request: Request) -> None:
        raise SystemExit(3)

    def leaves_in_thread(request: Request) -> None:
        raise SystemExit(3)

    for handler in (leaves, leaves_in_thread):
        assert served(Ask(path="/x"), handler=handler, method="GET")[0].status == 500


def test_dependencies_with_yield_are_closed() -> None:
    """After the answer, and also when the handler failed."""
    closed: list[str] = []

    async def opened() -> AsyncIterator[str]:
        try:
            yield "open"
        finally:
            closed.append("async")

    def opened_in_thread() -> Iterator[str]:
        try:
            yield "open"
        finally:
            closed.append("sync")

    async def handler(
        request: Request, one: Annotated[str, Depends(opened)], other: Annotated[str, Depends(opened_in_thread)]
    ) -> str:
        if request.query_params:
            raise LookupError
        return one + other

    fine, failed = served(Ask(path="/x"), Ask(path="/x?fail=1"), handler=handler, method="GET")
    assert (fine.status, failed.status) == (200, 500)
    assert sorted(closed) == ["async", "async", "sync", "sync"]


@pytest.mark.parametrize("through", [False, True])
def test_head_works_where_get_does(through: bool) -> None:
    """FastAPI itself answers 405; with and without the short way."""

    async def handler(request: Request) -> str:
        return "text"

    settings: dict[str, Any] = {"app_kwargs": {"title": "Mine"}} if through else {}
    asked = [Ask(method, path) for path in ("/x", "/health") for method in ("GET", "HEAD")]
    replies = served(*asked, handler=handler, method="GET", **settings)
    assert [(each.status, bool(each.body)) for each in replies] == [(200, True), (200, False)] * 2


def test_generators_are_fastapis() -> None:
    """A handler that yields is streamed as FastAPI streams it."""

    async def handler(request: Request) -> AsyncIterator[dict[str, int]]:
        for number in range(2):
            yield {"number": number}

    (answered,) = served(Ask(path="/x"), handler=handler, method="GET")
    assert answered.body.splitlines() == [b'{"number":0}', b'{"number":1}']


def test_the_route_is_in_the_application() -> None:
    """Under its own name, with the handler's own signature."""
    made = {
        "deployment_app_runner_flavor": "fastapi",
        "custom_endpoints": [{"path": "/x", "handler": by_framework, "extra_kwargs": {"name": "mine"}}],
    }
    app: Any = Deployment(hello, made, layers=()).app_runner.asgi_app
    assert app.url_path_for("mine") == "/x"
    assert app.openapi()["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("name", ["docs_url", "redoc_url", "openapi_url", "root_path"])
def test_arguments_that_settings_stand_for_are_refused(name: str) -> None:
    """FastAPI's documents would take the place of ours, and its root_path that of the server."""
    with pytest.raises(DefinitionError, match=rf"app_kwargs: '{name}' is the deployment's: use the setting"):
        deployed(hello, {"deployment_app_runner_flavor": "fastapi", "app_kwargs": {name: "/mine"}})
