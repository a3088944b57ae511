"""Custom endpoints: every mode, with and without a key."""

import functools
import json
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import anyio.to_thread
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from asgipipe.errors import DefinitionError, SettingsError
from tests.http.wire import JSON, SECURE_HEADERS, Ask, Reply, ask, ask_one, deployed, invoke
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, City, hello

CITY = b'{"name": "London", "population": 9}'


def spec(handler: object, method: str = "POST", path: str = "/mine", **more: object) -> dict[str, object]:
    return {"path": path, "method": method, "handler": handler, **more}


def settings(*specs: dict[str, object], **more: object) -> dict[str, object]:
    return {"custom_endpoints": list(specs), **more}


def answer(asked: Ask, *specs: dict[str, object], **more: object) -> Reply:
    return ask_one(hello, asked, settings(*specs, **more))


def refusal(*specs: dict[str, object], **more: object) -> str:
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, settings(*specs, **more))
    return str(refused.value)


# Direct callables


def test_a_plain_typed_function_is_validated_and_answers_json() -> None:
    """A model in, a model out, with a query parameter beside it; what does not fit is a 422."""
    good, bad = ask(
        hello,
        settings(spec(extras.grown)),
        Ask("POST", "/mine?factor=3", [JSON], CITY),
        Ask("POST", "/mine", [JSON], b'{"name": "London", "population": "many"}'),
    )
    assert (good.status, good.json()) == (200, {"name": "London", "population": 27})
    assert bad.problem["errors"] == [
        {"loc": ["body", "population"], "msg": "Input should be a valid integer", "type": "int_type"}
    ]


def test_a_plain_typed_function_is_documented() -> None:
    """openapi.json describes it with its schemas, and that it needs no key when it needs none."""
    document = answer(
        Ask(path="/openapi.json"),
        spec(extras.grown),
        spec(extras.grown, path="/open", auth_required=False),
        auth_key=KEY,
    ).json()
    operation = document["paths"]["/mine"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/City"}
    assert operation["parameters"][0]["name"] == "factor"
    assert "security" not in operation
    assert document["paths"]["/open"]["post"]["security"] == []


def test_import_strings_name_handlers() -> None:
    """A handler may be given as an import string, with a colon or a dot."""
    for source in ("tests.runners.extras:grown", "tests.runners.extras.grown"):
        assert answer(Ask("POST", "/mine", [JSON], CITY), spec(source)).json()["population"] == 18


def test_async_handlers_take_starlettes_request() -> None:
    """A coroutine function is given Starlette's Request and its Response is sent."""
    reply = answer(Ask("POST", "/mine", (), b"quiet"), spec(extras.shouted))
    assert (reply.status, reply.body, reply.header(b"content-type")) == (200, b"QUIET", b"text/plain; charset=utf-8")


def test_sync_handlers_take_starlettes_request() -> None:
    """A plain function is given Starlette's Request as well."""
    assert answer(Ask("GET", "/mine?q=x"), spec(extras.counted, "GET")).json() == {"length": 5, "query": "x"}


def by_position(request: Request, /) -> Response:
    return PlainTextResponse(request.method)


def unannotated(request):  # type: ignore[no-untyped-def]
    return PlainTextResponse(request.method)


def named_otherwise(req: Request) -> Response:
    return PlainTextResponse(req.method)


def as_connection(connection: HTTPConnection) -> Response:
    return PlainTextResponse(connection["method"])


def by_keyword(*, request: Annotated[Request, "the request"], unused: int = 1) -> Response:
    return PlainTextResponse(request.method)


class Method:
    async def __call__(self, request: Request) -> Response:
        return PlainTextResponse(request.method)

    def bound(self, request: Request) -> Response:
        return PlainTextResponse(request.method)


class OwnRequest(Request):
    @property
    def shout(self) -> str:
        return self.method


async def own_class(request: OwnRequest) -> Response:
    return PlainTextResponse(request.shout)


@pytest.mark.parametrize(
    "handler",
    [
        by_position,
        unannotated,
        named_otherwise,
        as_connection,
        by_keyword,
        Method(),
        Method().bound,
        own_class,
        functools.partial(by_keyword, unused=2),
        lambda request: PlainTextResponse(request.method),
    ],
)
def test_the_request_is_given_as_it_is_asked_for(handler: object) -> None:
    """By position or name, with or without annotation, to functions, methods, partials and objects with __call__."""
    assert answer(Ask("PUT", "/mine"), spec(handler, "PUT")).body == b"PUT"


async def as_dict(request: Request) -> dict[str, float]:
    return {"a": float("nan")}


def as_model(request: Request) -> City:
    return City(name=request.query_params["name"], population=1)


def as_coroutine(request: Request) -> object:
    return extras.shouted(request)


def test_what_is_no_response_becomes_json() -> None:
    """A handler that takes the request may return a value; it is sent as typed handlers send theirs."""
    assert answer(Ask(path="/mine"), spec(as_dict, "GET")).json() == {"a": None}
    assert answer(Ask(path="/mine?name=Ur"), spec(as_model, "GET")).json() == {"name": "Ur", "population": 1}
    assert answer(Ask("POST", "/mine", (), b"ok"), spec(as_coroutine)).body == b"OK"


def both(request: Request, city: City) -> Response:
    raise AssertionError("never called")


def two(request: Request, other: Request) -> Response:
    raise AssertionError("never called")


def injected(response: Response) -> Response:
    raise AssertionError("never called")


def socket(websocket: WebSocket) -> None:
    raise AssertionError("never called")


def generator(request: Request) -> Iterator[str]:
    yield "never"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (both, "read 'city' from the request"),
        (two, "takes no single Request"),
        (injected, "read 'response' from the request"),
        (socket, "give it as a WebSocketRoute, with 'native'"),
        (generator, "return a StreamingResponse"),
    ],
)
def test_handlers_that_starlette_cannot_call_are_refused(handler: object, reason: str) -> None:
    """What would fail with the first request is told when the deployment is built, with the endpoint's name."""
    message = refusal(spec(handler))
    assert message.startswith("custom endpoint POST /mine: handler tests.runners.test_endpoints.")
    assert reason in message


# Builders


@pytest.mark.parametrize(
    ("builder", "expected"),
    [(extras.Greeter, "Ave you from hello"), (extras.build_greeter, "Ave you from hello")],
)
def test_builders_get_the_app_runner_and_their_arguments(builder: object, expected: str) -> None:
    """A builder class or function is called once with `app_runner` and `init_kwargs`; its product answers."""
    made = spec(builder, "GET", init_kwargs={"greeting": "Ave"})
    assert answer(Ask(path="/mine?name=you"), made).json() == expected


def test_a_builder_can_make_a_handler_that_takes_the_request() -> None:
    """Also one whose product is an object with an async __call__."""
    made = spec(extras.RequestGreeter, "GET", init_kwargs={"greeting": "Salve"})
    assert answer(Ask(path="/mine?name=you"), made).body == b"Salve you"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (spec(extras.Greeter, init_kwargs={"greting": "x"}), "init_kwargs do not fit"),
        (spec(extras.grown, init_kwargs={"factor": 1}), "init_kwargs are for builders"),
        (spec("tests.runners.extras:nothing"), "has no attribute 'nothing'"),
        (spec("tests.runners.extras:KEY"), "which is not callable"),
        (spec(extras.native_route(), native=True, init_kwargs={"a": 1}), "init_kwargs are for builders"),
        (spec(extras.grown, extra_kwargs={"methods": ["GET"]}), "field 'method'"),
        (spec(extras.grown, extra_kwargs={"nmae": "x"}), "unexpected keyword argument 'nmae'"),
    ],
)
def test_what_cannot_be_built_is_refused(made: dict[str, object], reason: str) -> None:
    """Every mistake is told when the deployment is built, and names the endpoint."""
    message = refusal(made)
    assert "endpoint" in message
    assert "/mine" in message
    assert reason in message


# Keys


def every_mode(auth_required: bool) -> dict[str, dict[str, object]]:
    """Return one endpoint of each mode that answers GET /n or below it."""
    common: dict[str, Any] = {"path": "/n", "method": "GET", "auth_required": auth_required}
    modes: dict[str, dict[str, object]] = {
        "typed": {"handler": lambda: "x"},
        "request": {"handler": extras.counted},
        "builder class": {"handler": extras.RequestGreeter, "init_kwargs": {"greeting": "x"}},
        "builder function": {"handler": lambda app_runner: lambda: "x"},
        "template": {"handler": lambda name: name, "path": "/{name}"},
        "route": {"handler": extras.native_route(), "native": True},
        "endpoint class": {"handler": extras.Told, "native": True},
        "mount": {"handler": extras.native_mount(), "native": True},
        "router": {"handler": extras.native_router(), "native": True},
        "application": {"handler": extras.plain_app, "native": True},
    }
    return {mode: {**common, **own} for mode, own in modes.items()}


PATHS = {"mount": "/n/told", "router": "/n/told", "builder class": "/n?name=x"}


@pytest.mark.parametrize("mode", sorted(every_mode(True)))
def test_endpoints_need_the_key_unless_they_are_open(mode: str) -> None:
    """Deny by default: GET and HEAD, each mode; `auth_required=False` opens it, the key opens it always."""
    path = PATHS.get(mode, "/n")
    for auth_required in (True, False):
        made = settings(every_mode(auth_required)[mode], auth_key=KEY)
        without = ask(hello, made, Ask("GET", path), Ask("HEAD", path))
        with_key = ask(hello, made, Ask("GET", path, [BEARER]), Ask("HEAD", path, [BEARER]))
        assert [reply.status for reply in without] == ([401, 401] if auth_required else [200, 200])
        assert [reply.status for reply in with_key] == [200, 200]
        assert with_key[1].body == b""


@pytest.mark.parametrize("mode", sorted(every_mode(True)))
def test_openness_is_that_of_the_method_that_was_opened(mode: str) -> None:
    """OPTIONS and other methods of an open endpoint need the key like an unlisted path, unless it is its own app."""
    made = settings(every_mode(False)[mode], auth_key=KEY)
    whole = mode == "application"  # which answers whatever is sent below its path
    inside = mode in ("endpoint class", "mount", "router")  # whose 405 is behind the open door
    for method in ("OPTIONS", "DELETE"):
        status = ask_one(hello, Ask(method, PATHS.get(mode, "/n")), made).status
        assert status == (200 if whole else 405 if inside else 401), method


@pytest.mark.parametrize("path", ["//n", "/n/", "/N", "/n%2f", "/x/../n", "/n/x", ""])
@pytest.mark.parametrize("mode", ["typed", "route", "endpoint class"])
def test_an_open_endpoint_opens_no_path_but_its_own(mode: str, path: str) -> None:
    """Neighbouring and oddly written paths need the key."""
    assert ask_one(hello, Ask("GET", path), settings(every_mode(False)[mode], auth_key=KEY)).status == 401


def test_an_exact_path_that_needs_the_key_is_not_opened_by_a_template() -> None:
    """Whatever the order of the list, /items/secret is answered by its own handler, which needs the key."""
    open_template = spec(lambda name: name, "GET", "/items/{name}", auth_required=False)
    closed = spec(lambda: "secret", "GET", "/items/secret")
    for specs in ([open_template, closed], [closed, open_template]):
        made = settings(*specs, auth_key=KEY)
        denied, granted, other = ask(
            hello, made, Ask(path="/items/secret"), Ask(path="/items/secret", headers=[BEARER]), Ask(path="/items/x")
        )
        assert (denied.status, granted.json(), other.json()) == (401, "secret", "x")


def test_an_open_exact_path_does_not_open_a_template_that_needs_the_key() -> None:
    """Whatever the order of the list, the open /items/new is answered by its own handler, not by /items/{name}."""
    closed_template = spec(lambda name: f"item {name}", "GET", "/items/{name}")
    opened = spec(lambda: "new", "GET", "/items/new", auth_required=False)
    for specs in ([closed_template, opened], [opened, closed_template]):
        free, denied = ask(hello, settings(*specs, auth_key=KEY), Ask(path="/items/new"), Ask(path="/items/x"))
        assert (free.json(), denied.status) == ("new", 401)


# Paths


def test_path_templates() -> None:
    """{name} takes one segment, {name:path} all that follows; both reach the handler, typed."""

    def item(number: int) -> int:
        return number + 1

    def file(rest: str) -> str:
        return rest

    made = settings(spec(item, "GET", "/items/{number}"), spec(file, "GET", "/files/{rest:path}"))
    first, second, third, fourth = ask(
        hello, made, Ask(path="/items/41"), Ask(path="/items/x"), Ask(path="/files/a/b.c"), Ask(path="/items/1/2")
    )
    assert (first.json(), second.status, third.json(), fourth.status) == (42, 422, "a/b.c", 404)


def test_the_more_exact_template_answers() -> None:
    """Literal text comes before {name}, that before {name:path}, whatever the order of the list."""
    specs = [
        spec(lambda rest: "rest", "GET", "/{rest:path}"),
        spec(lambda a, b: "both", "GET", "/{a}/{b}"),
        spec(lambda a: "tail", "GET", "/{a}/tail"),
        spec(lambda b: "head", "GET", "/head/{b}"),
        spec(lambda b: "part", "GET", "/head/x-{b}"),
    ]
    expected = {
        "/head/tail": "head",
        "/x/tail": "tail",
        "/x/y": "both",
        "/x": "rest",
        "/x/y/z": "rest",
        "/head/x-1": "part",
    }
    for order in (specs, specs[::-1]):
        replies = ask(hello, settings(*order), *(Ask(path=path) for path in expected))
        assert [reply.json() for reply in replies] == list(expected.values())


def test_endpoints_lie_below_the_root_path() -> None:
    """`root_url_path` is in front of every path, custom ones too."""
    specs = settings(
        spec(lambda: "mine", "GET", "/mine"),
        spec(lambda: "root", "GET", ""),
        spec(extras.native_route(), path="/n", native=True),
        root_url_path="/w",
        api_url_path="/v1",
    )
    paths = ["/w/mine", "/w", "/w/n", "/mine", "/n", "/v1/mine", "/w/v1/health"]
    replies = ask(hello, specs, *(Ask(path=path) for path in paths))
    assert [reply.status for reply in replies] == [200, 200, 200, 404, 404, 404, 200]


def test_the_root_may_be_a_custom_endpoint() -> None:
    """An endpoint at "" or "/" answers GET / instead of the dashboard."""
    for path in ("", "/"):
        assert answer(Ask(path="/"), spec(lambda: "mine", "GET", path)).json() == "mine"


# Replacing what is built in


@pytest.mark.parametrize(
    "path",
    ["/health", "/ready", "/info", "/metrics", "/status", "/docs", "/redoc", "/openapi.json", "/"],
)
def test_a_custom_endpoint_replaces_a_built_in_one(path: str) -> None:
    """The same path and method: ours is gone, with its openness; other methods of the path stay as they are."""
    made = settings(spec(lambda: "mine", "GET", path), auth_key=KEY)
    denied, granted, head = ask(
        hello, made, Ask(path=path), Ask(path=path, headers=[BEARER]), Ask("HEAD", path, headers=[BEARER])
    )
    assert (denied.status, granted.status, granted.json(), head.status) == (401, 200, "mine", 200)


def test_a_custom_invoke_replaces_ours() -> None:
    """POST /invoke may be the user's; the document describes theirs."""
    invoked, document = ask(
        hello,
        settings(spec(extras.grown, path="/invoke")),
        Ask("POST", "/invoke", [JSON], CITY),
        Ask(path="/openapi.json"),
    )
    assert invoked.json() == {"name": "London", "population": 18}
    assert document.json()["paths"]["/invoke"]["post"]["summary"] == "Let a city grow."


def test_a_replaced_document_is_described_once() -> None:
    """The user's /openapi.json is served; the pages that show it are still there."""
    own, docs = ask(
        hello,
        settings(spec(lambda: {"openapi": "mine"}, "GET", "/openapi.json")),
        Ask(path="/openapi.json"),
        Ask(path="/docs"),
    )
    assert (own.json(), docs.status) == ({"openapi": "mine"}, 200)


def test_another_method_of_a_built_in_path() -> None:
    """POST /health beside our GET: both answer, and 405 names all of them."""
    own, ours, other = ask(
        hello,
        settings(spec(lambda: "mine", "POST", "/health")),
        Ask("POST", "/health"),
        Ask(path="/health"),
        Ask("PUT", "/health"),
    )
    assert (own.json(), ours.json()["status"], other.status) == ("mine", "healthy", 405)
    assert other.header(b"allow") == b"GET, HEAD, POST"


def health() -> str:
    return "mine"


def test_names_of_handlers_replace_nothing() -> None:
    """A function that happens to be named like a built-in endpoint takes its own path only, and Starlette's request."""

    def invoke(request: Request) -> Response:
        return PlainTextResponse(type(request.app).__name__)

    own, ours, taken, run = ask(
        hello,
        settings(spec(health, "GET", "/a"), spec(invoke, "GET", "/b")),
        Ask(path="/a"),
        Ask(path="/health"),
        Ask(path="/b"),
        invoke_once(),
    )
    assert (own.json(), ours.json()["status"], taken.body, run.status) == ("mine", "healthy", b"Starlette", 200)


def invoke_once() -> Ask:
    return invoke({"parameters": {"name": "you"}})


# Refusals


def teapot(request: Request) -> Response:
    raise HTTPException(418, "I am one", headers={"X-Spout": "short"})


def typed_teapot() -> str:
    raise HTTPException(418, "I am one", headers={"X-Spout": "short"})


async def native_teapot(request: Request) -> Response:
    return teapot(request)


@pytest.mark.parametrize("handler", [teapot, typed_teapot, native_teapot])
def test_starlettes_http_exceptions_become_problems(handler: object) -> None:
    """Status, detail and headers of an HTTPException are kept, whichever kind of handler raised it."""
    reply = answer(Ask(path="/mine"), spec(handler, "GET"))
    assert reply.problem["detail"] == "I am one"
    assert reply.problem["type"] == "urn:asgipipe:i-m-a-teapot"
    assert (reply.status, reply.header(b"x-spout")) == (418, b"short")


def test_a_405_that_a_handler_raises_is_its_own() -> None:
    """Only a method that nobody answers is told with all methods of the path."""

    async def picky(request: Request) -> Response:
        raise HTTPException(405, "not today", headers={"allow": "PATCH"})

    reply = answer(Ask(path="/mine"), spec(picky, "GET"))
    assert (reply.problem["detail"], reply.header(b"allow")) == ("not today", b"PATCH")


class Broken(Exception):
    pass


def failing(request: Request) -> Response:
    raise Broken("secret detail")


async def failing_async(request: Request) -> Response:
    raise Broken("secret detail")


async def exiting(request: Request) -> Response:
    raise SystemExit("secret detail")


def exiting_sync(request: Request) -> Response:
    raise KeyboardInterrupt("secret detail")


def failing_typed() -> str:
    raise Broken("secret detail")


def unserialisable(request: Request) -> object:
    return object()


def timing_out(request: Request) -> Response:
    raise TimeoutError("secret detail")


@pytest.mark.parametrize(
    "handler", [failing, failing_async, exiting, exiting_sync, failing_typed, unserialisable, timing_out]
)
@pytest.mark.parametrize("through_framework", [False, True])
def test_failing_handlers_answer_a_500_that_says_nothing(
    handler: object, through_framework: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A problem document without any detail of the inside; the log has it, and the service lives."""
    more = {"custom_middlewares": [{"middleware": extras.dispatching, "native": True}]} if through_framework else {}
    failed, after = ask(hello, settings(spec(handler, "GET"), **more), Ask(path="/mine"), invoke_once())
    assert failed.status == 500
    assert failed.problem["type"] == "urn:asgipipe:internal"
    assert b"secret" not in failed.body
    assert after.status == 200
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "test_endpoints" in errors[0].getMessage()


REFUSED = {
    404: Ask(path="/nowhere"),
    405: Ask("DELETE", "/mine"),
    415: Ask("POST", "/mine", [(b"content-type", b"text/plain")], CITY),
    422: Ask("POST", "/mine", [JSON], b"{}"),
    500: Ask("POST", "/broken"),
}


@pytest.mark.parametrize("through_framework", [False, True])
@pytest.mark.parametrize("status", sorted(REFUSED))
def test_refusals_are_problems_with_all_headers(status: int, through_framework: bool) -> None:
    """404, 405, 415, 422 and 500 of custom endpoints are problem documents and carry each secure header once."""
    more = {"app_extensions": [{"extension": lambda app_runner: None}]} if through_framework else {}
    reply = answer(REFUSED[status], spec(extras.grown), spec(failing, path="/broken"), **more)
    assert reply.problem["status"] == status
    assert all(len(reply.all(name)) == 1 for name in SECURE_HEADERS)


def test_allow_names_every_method_of_a_path() -> None:
    """Built-in, custom and native methods together, templates too."""
    specs = [
        spec(lambda: 1, "PUT", "/a/b"),
        spec(lambda name: 1, "GET", "/a/{name}"),
        spec(extras.told_route("/a/b", "PATCH"), path="/a", native=True),
    ]
    reply = answer(Ask("DELETE", "/a/b"), *specs)
    assert (reply.status, reply.header(b"allow")) == (405, b"GET, HEAD, PATCH, PUT")
    assert reply.problem["detail"] == "This path answers GET, HEAD, PATCH, PUT."


def test_a_deadline_holds_for_handlers_that_take_the_request() -> None:
    """`request_timeout` ends them with a 504; the thread that goes on does no harm."""
    gate = threading.Event()

    def slow(request: Request) -> Response:
        gate.wait(30)
        return PlainTextResponse("late")

    try:
        reply = answer(Ask(path="/mine"), spec(slow, "GET"), request_timeout=0.05)
    finally:
        gate.set()
    assert reply.problem["type"] == "urn:asgipipe:deadline"
    assert reply.status == 504


def test_bodies_are_limited_for_handlers_that_read_them_themselves() -> None:
    """413 with a length that says so, and 413 while it is read without one."""
    declared, chunked = ask(
        hello,
        settings(spec(extras.shouted), max_request_body_size=10),
        Ask("POST", "/mine", (), b"x" * 11),
        Ask("POST", "/mine", chunks=[b"x" * 6, b"x" * 6]),
    )
    assert declared.problem == chunked.problem
    assert declared.status == 413


def test_streams_are_passed_on() -> None:
    """A StreamingResponse of a handler that takes the request arrives in its pieces."""

    async def streamed(request: Request) -> Response:
        async def parts() -> Any:
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    reply = answer(Ask(path="/mine"), spec(streamed, "GET"))
    assert [message["body"] for message in reply.messages[1:]] == [b"a", b"b", b""]


# Threads


def typed_thread() -> str:
    return threading.current_thread().name


def request_thread(request: Request) -> JSONResponse:
    return JSONResponse(threading.current_thread().name)


@pytest.mark.parametrize("handler", [typed_thread, request_thread])
def test_sync_handlers_run_in_the_deployments_threads(handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never in anyio's: those are limited for the whole host."""

    async def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("the host's threads were asked for")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refused)
    reply = answer(Ask(path="/mine"), spec(handler, "GET"))
    assert json.loads(reply.body).startswith("asgipipe-hello-")


def test_refusals_need_no_thread_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """404 and 405 that Starlette finds, and a handler's failure, are answered on the event loop."""

    async def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("the host's threads were asked for")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refused)
    replies = ask(
        hello,
        settings(spec(failing_async)),
        Ask(path="/nowhere"),
        Ask("PUT", "/mine"),
        Ask("POST", "/mine"),
        Ask("PUT", "/info"),
    )
    assert [reply.status for reply in replies] == [404, 405, 500, 405]


# What goes to the framework


def test_extra_arguments_reach_the_route() -> None:
    """`extra_kwargs` are Starlette's: the name of the route, whether it is documented."""

    def named(request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("special")))

    specs = settings(
        spec(named, "GET", extra_kwargs={"name": "special"}),
        spec(extras.grown, path="/shown", extra_kwargs={"include_in_schema": True}),
        spec(extras.grown, path="/hidden", extra_kwargs={"include_in_schema": False}),
    )
    url, document = ask(hello, specs, Ask(path="/mine"), Ask(path="/openapi.json"))
    assert url.body == b"http://testserver/mine"
    assert document.json()["paths"].keys() & {"/shown", "/hidden"} == {"/shown"}


@extras.needs_body_limits
def test_a_route_has_a_body_limit_of_its_own() -> None:
    """`max_body_size` in `extra_kwargs` is Starlette's."""
    specs = settings(spec(extras.grown, extra_kwargs={"max_body_size": 5}))
    assert ask_one(hello, Ask("POST", "/mine", [JSON], CITY), specs).status == 413


def test_two_endpoints_at_one_place_are_refused() -> None:
    """The same method and path twice cannot both answer."""
    with pytest.raises(SettingsError, match="an endpoint before it answers POST /mine already"):
        deployed(hello, settings(spec(extras.grown), spec(extras.counted)))
