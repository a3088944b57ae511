"""The Quart app runner: routes, handlers, failures and lifespan."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("quart")

from quart import Quart, Request, Response, Websocket
from werkzeug import Response as WerkzeugResponse

from asgipipe import Deployment
from asgipipe.errors import DefinitionError, StartupError
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe_quart import QuartAppRunner
from tests.adapters.quart import samples
from tests.adapters.quart.samples import BEARER, KEY, hello
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import JSON, Ask, Reply, ask_app, http_scope, invoke, reply, until

TELLING = {"path": "/told", "method": "GET", "handler": samples.ambient}


def deployment(*specs: object, target: object = hello, **settings: object) -> Deployment:
    flavor = {"deployment_app_runner_flavor": "quart", "custom_endpoints": list(specs)}
    return Deployment(target, {**flavor, **settings}, layers=())


def ask(made: Deployment, *asked: Ask | str) -> list[Reply]:
    return ask_app(made.asgi_app, *(Ask(path=one) if isinstance(one, str) else one for one in asked))


def ask_one(made: Deployment, asked: Ask | str) -> Reply:
    return ask(made, asked)[0]


def runner_of(made: Deployment) -> QuartAppRunner:
    assert isinstance(made.app_runner, QuartAppRunner)
    return made.app_runner


def through_framework(app_runner: object) -> None:
    """Do nothing: an extension is what makes every request pass through Quart."""


# Routes


def test_every_row_is_a_rule() -> None:
    """Built-in and custom endpoints are rules of the application under their names, so `url_for` knows them."""
    made = deployment({"path": "/items/{name}/{rest:path}", "method": "GET", "handler": samples.named})
    app = runner_of(made).asgi_app
    assert isinstance(app, Quart)
    rules = {rule.endpoint: rule.rule for rule in app.url_map.iter_rules()}
    assert {"health": "/health", "invoke": "/invoke"}.items() <= rules.items()

    async def urls() -> list[str]:
        async with app.app_context():
            return [app.url_for("named", name="a b", rest="c/d", _external=False)]

    app.config["SERVER_NAME"] = "testserver"
    assert asyncio.run(urls()) == ["/items/a%20b/c/d"]


def test_rows_come_before_native_rules_in_our_order() -> None:
    """What answers is what the table says, also where werkzeug would choose another rule."""
    made = deployment(
        {"path": "/items/{name}", "method": "GET", "handler": lambda name: f"row {name}"},
        {"path": "/items/new", "handler": samples.told, "native": True},
        {"path": "/pairs/a{left}", "method": "GET", "handler": lambda left: f"left {left}"},
        {"path": "/pairs/{right}b", "method": "GET", "handler": lambda right: f"right {right}"},
    )
    replies = ask(made, "/items/new", "/pairs/ab", "/pairs/xb", "/items/")
    assert [each.body for each in replies[:3]] == [b'"row new"', b'"left b"', b'"right x"']
    assert replies[3].problem["status"] == 404


@pytest.mark.parametrize("path", ["//health", "/health/", "//", "/told/x", "/told//", "//told"])
def test_other_forms_of_a_path_are_404(path: str) -> None:
    """Neither werkzeug's redirects nor its stripping of slashes make a path another one."""
    made = deployment(TELLING, {"path": "/slashed", "handler": slashed(), "native": True})
    for each in ask(made, path, "/slashed/in"):
        assert each.problem["status"] == 404


def slashed() -> Any:
    made = samples.native_blueprint()
    made.add_url_rule("/in/", "in", samples.told)
    return made


def test_options_is_no_method_of_ours() -> None:
    """Quart's automatic OPTIONS is off: a 405 with every method there is, for rows and native rules alike."""
    made = deployment(TELLING, {"path": "/told", "handler": samples.Methods, "native": True})
    for answered in ask(made, Ask("OPTIONS", "/told"), Ask("PUT", "/told")):
        assert answered.problem["status"] == 405
        assert answered.header(b"allow") == b"DELETE, GET, HEAD"


@pytest.mark.parametrize(
    ("headers", "query"),
    [([(b"host", b"")], ""), ([(b"host", b"a b\xff")], ""), ([(b"host", b"x" * 300)], ""), ([], "\udcff=1")],
)
def test_odd_hosts_and_queries_have_no_say(headers: list[tuple[bytes, bytes]], query: str) -> None:
    """A Host, or a query, that werkzeug cannot read is neither a 500 nor a 400 for who does not ask for it."""
    made = deployment(
        {"path": "/named/{name}", "method": "GET", "handler": lambda name: name},
        app_extensions=[{"extension": through_framework}],
    )
    scope = {"query_string": query.encode("utf-8", "surrogateescape")}
    answers = ask(made, *(Ask("GET", path, headers, scope=scope) for path in ("/named/a", "/health", "/none")))
    assert [each.status for each in answers] == [200, 200, 404]


# Handlers that are written for Quart


def test_a_handler_gets_the_request() -> None:
    """By any name, positional or not, with the body and the values of the path it asks for."""
    made = deployment(
        {"path": "/shouted", "handler": samples.shouted},
        {"path": "/named/{name}", "method": "GET", "handler": samples.named},
        {"path": "/both/{name}/{rest:path}", "method": "GET", "handler": samples.named},
        TELLING,
    )
    shouted, named, both, ambient = ask(made, Ask("POST", "/shouted", body=b"abc"), "/named/x", "/both/x/y/z", "/told")
    assert (shouted.status, shouted.body) == (203, b"ABC")
    assert named.json() == {"name": "x", "rest": "none", "method": "GET"}
    assert both.json() == {"name": "x", "rest": "y/z", "method": "GET"}
    assert ambient.body == b"GET /told"


def test_a_body_in_pieces_is_read_as_it_comes() -> None:
    """A handler with the request gets all of it, and one that is too large is 413, on either way."""
    made = deployment({"path": "/shouted", "handler": samples.shouted}, max_request_body_size=5)
    for chunks in ([b"abc"], [b"ab", b"c"], [b"", b"abc"]):
        assert ask_one(made, Ask("POST", "/shouted", chunks=chunks)).body == b"ABC"
    for chunks in ([b"abcdef"], [b"abc", b"def"]):
        assert ask_one(made, Ask("POST", "/shouted", chunks=chunks)).problem["status"] == 413


def test_what_a_hook_puts_around_the_application_is_around_handlers() -> None:
    """Quart's users replace `asgi_app`; the short way ends there."""
    seen: list[str] = []

    def surround(app_runner: QuartAppRunner) -> None:
        inner = app_runner.asgi_app.asgi_app

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await inner(scope, receive, send)

        app_runner.asgi_app.asgi_app = outer  # type: ignore[method-assign]

    assert ask_one(deployment(TELLING, startup_hook=surround), "/told").body == b"GET /told"
    assert seen == ["/told"]


@pytest.mark.parametrize("response", [Response, WerkzeugResponse])
@pytest.mark.parametrize("through", [False, True])
def test_a_response_need_not_be_declared(response: type, through: bool) -> None:
    """Of a handler with typed arguments; on the short way and through Quart the answer is the same."""

    def undeclared(code: int = 201):  # type: ignore[no-untyped-def]  # that is the point
        return response("made", status=code)

    extensions = [{"extension": through_framework}] if through else []
    made = deployment({"path": "/made", "method": "GET", "handler": undeclared}, app_extensions=extensions)
    answered = ask_one(made, Ask(path="/made", scope={"query_string": b"code=202"}))
    assert (answered.status, answered.body, answered.header(b"content-length")) == (202, b"made", b"4")


def test_sync_handlers_run_in_the_deployments_threads() -> None:
    """Neither a handler nor a native view waits in the event loop's own executor, which is the host's."""
    made = deployment(
        {"path": "/threaded", "method": "GET", "handler": samples.threaded},
        {"path": "/native", "handler": samples.told_in_thread, "native": True},
    )
    threaded, native = ask(made, "/threaded", "/native")
    assert (threaded.status, threaded.header(b"x-kind")) == (201, b"tuple")
    assert threaded.json()["thread"].startswith("asgipipe-hello")
    assert native.body.startswith(b"asgipipe-hello")


async def two(one: Request, other: Request) -> str:
    raise AssertionError("never called")


async def generating(request: Request) -> AsyncIterator[str]:
    yield "never called"


async def asking(request: Request, q: str) -> str:
    raise AssertionError("never called")


async def socketing(ws: Websocket) -> str:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (two, "takes 2 Requests"),
        (generating, "return a Response of one"),
        (asking, "read 'q' from the request"),
        (socketing, "as a websocket of a Blueprint"),
    ],
)
def test_handlers_that_cannot_be_called_are_refused(handler: object, reason: str) -> None:
    """What a handler cannot be given is told when the application is built."""
    with pytest.raises(DefinitionError, match=reason):
        deployment({"path": "/h", "handler": handler})


def test_a_handler_has_the_deadline() -> None:
    """`request_timeout` holds for handlers of Quart's too: 504."""

    async def waits(request: Request) -> str:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    assert ask_one(deployment({"path": "/h", "handler": waits}, request_timeout=0.05), Ask("POST", "/h")).status == 504


def test_a_handler_in_the_place_of_a_probe_starts_the_deployment() -> None:
    """Without lifespan events the first request to it does, as to any probe."""
    made = deployment({"path": "/health", "method": "GET", "handler": samples.threaded})

    async def main() -> Reply:
        answered = await reply(made.asgi_app, Ask(path="/health"))
        assert made.lifecycle.started
        return answered

    assert asyncio.run(main()).status == 201


# Failures


@pytest.mark.parametrize(
    ("kind", "status", "detail"),
    [
        ("plain", 409, "Conflict"),
        ("said", 409, "Somebody else has it."),
        ("odd", 418, "A teapot."),
        ("none", 500, "The server failed to answer; its log says why."),
        ("lookup", 500, "The server failed to answer; its log says why."),
        ("exit", 500, "The server failed to answer; its log says why."),
    ],
)
@pytest.mark.parametrize("switch", ["", "TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS", "TRAP_HTTP_EXCEPTIONS"])
def test_what_is_raised_is_a_problem(kind: str, status: int, detail: str, switch: str) -> None:
    """Exceptions of werkzeug's and others are the documents of the other app runners, whatever Quart is told to do."""
    made = deployment({"path": "/refusing", "method": "GET", "handler": samples.refusing})
    if switch:
        runner_of(made).asgi_app.config[switch] = True
    answered = ask_one(made, f"/refusing?kind={kind}")
    assert (answered.status, answered.problem["detail"]) == (status, detail)
    assert b"internal matter" not in answered.body


def test_a_body_that_is_no_json_is_a_problem() -> None:
    """Quart's own reader of JSON refuses with a 400 in our form."""
    made = deployment({"path": "/refusing", "handler": samples.refusing})
    answered = ask_one(made, Ask("POST", "/refusing?kind=json", (JSON,), b"{"))
    assert (answered.status, answered.problem["detail"]) == (400, "Bad Request")


def test_a_whole_response_may_be_raised() -> None:
    """`abort(response)` sends that response."""
    made = deployment({"path": "/refusing", "method": "GET", "handler": samples.refusing})
    answered = ask_one(made, "/refusing?kind=whole")
    assert (answered.status, answered.body, answered.header(b"x-own")) == (410, b"mine", b"yes")


async def broken(response: object) -> object:
    raise LookupError("an internal matter")


def test_what_stands_around_views_fails_as_they_do() -> None:
    """A function after requests that raises is a 500 of ours, under DEBUG too, where Quart has a page for it."""
    made = deployment(custom_middlewares=[{"middleware": broken, "native": True}])
    runner_of(made).asgi_app.config["DEBUG"] = True
    answered = ask_one(made, "/health")
    assert answered.problem["status"] == 500
    assert b"internal matter" not in answered.body


def test_an_extension_may_answer_errors_its_own_way() -> None:
    """Error handlers that are registered with the application come before ours."""

    def install(app_runner: Any) -> None:
        @app_runner.asgi_app.errorhandler(LookupError)
        async def handle(error: LookupError) -> tuple[str, int]:
            return "mine", 410

    spec = {"path": "/refusing", "method": "GET", "handler": samples.refusing}
    answered = ask_one(deployment(spec, app_extensions=[{"extension": install}]), "/refusing?kind=lookup")
    assert (answered.status, answered.body) == (410, b"mine")


def test_a_value_that_is_no_utf_8_is_sent() -> None:
    """A header value of an application inside Quart is no reason for a 500, though Quart writes UTF-8."""

    async def accented(scope: Scope, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"caf\xe9")]})
        await send({"type": "http.response.body", "body": b""})

    answered = ask_one(deployment({"path": "/n", "handler": accented, "native": True}), "/n")
    assert answered.header(b"x-own") == "café".encode()


# Connections


def test_limits_are_the_deployments() -> None:
    """Neither Quart's limit of a body nor its time for one, or for an answer, holds beside ours."""
    app = runner_of(deployment()).asgi_app
    assert [app.config[name] for name in ("MAX_CONTENT_LENGTH", "BODY_TIMEOUT", "RESPONSE_TIMEOUT")] == [None] * 3


def test_a_run_goes_on_when_its_client_leaves() -> None:
    """Quart would cancel the view; the run ends, and counts as in progress until then."""
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go_on.wait()
        ended.set()
        return "done"

    async def main() -> None:
        made = deployment(target=slow, app_extensions=[{"extension": through_framework}])
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        asked = invoke({})
        inbox.put_nowait({"type": "http.request", "body": asked.body, "more_body": False})

        async def send(message: Message) -> None:
            """Nobody is there."""

        async with lifespan(made.asgi_app):
            request = asyncio.ensure_future(made.asgi_app(http_scope(asked), inbox.get, send))
            await asyncio.wait_for(begun.wait(), PATIENCE)
            inbox.put_nowait({"type": "http.disconnect"})
            await asyncio.sleep(0)
            assert made.lifecycle.active == 1
            go_on.set()
            await asyncio.wait_for(ended.wait(), PATIENCE)
            await asyncio.wait_for(request, PATIENCE)
            assert made.lifecycle.active == 0

    asyncio.run(main())


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("kind", ["generator", "undeclared", "request"])
def test_a_stream_ends_when_its_client_leaves(kind: str, through: bool) -> None:
    """It is closed at the disconnect, whoever made it and whichever way it goes, and nothing of the request is left."""
    closed = asyncio.Event()

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "tick"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def undeclared():  # type: ignore[no-untyped-def]  # that is the point
        return Response(ticks())

    async def takes_request(request: Request) -> Response:
        return Response(ticks())

    async def main() -> None:
        handler = {"generator": ticks, "undeclared": undeclared, "request": takes_request}[kind]
        extensions = [{"extension": through_framework}] if through else []
        made = deployment({"path": "/ticks", "method": "GET", "handler": handler}, app_extensions=extensions)
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        pieces = 0

        async def send(message: Message) -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 3:
                inbox.put_nowait({"type": "http.disconnect"})

        async with lifespan(made.asgi_app):
            await asyncio.wait_for(made.asgi_app(http_scope(Ask(path="/ticks")), inbox.get, send), PATIENCE)
            await asyncio.wait_for(closed.wait(), PATIENCE)
            await until(lambda: made.lifecycle.active == 0)

    asyncio.run(main())


# Lifespan


class Serving:
    """What an extension adds to the application's serving; the first `failing` starts fail."""

    def __init__(self, failing: int = 0) -> None:
        self.seen: list[str] = []
        self._failing = failing

    def install(self, app_runner: Any) -> None:
        app: Quart = app_runner.asgi_app
        app.before_serving(self._before)
        app.while_serving(self._while)
        app.while_serving(self._last)
        app.after_serving(self._after)

    def _before(self) -> None:
        self.seen.append("before")

    async def _while(self) -> AsyncIterator[None]:
        self.seen.append("open")
        try:
            yield
        finally:
            self.seen.append("close")

    async def _last(self) -> AsyncIterator[None]:
        if self._failing:
            self._failing -= 1
            raise OSError("no model")
        yield

    async def _after(self) -> None:
        self.seen.append("after")


def test_the_applications_serving_is_the_deployments() -> None:
    """Functions before, while and after serving run once; Quart 0.20 closes in another order than later ones."""
    serving = Serving()
    assert ask_one(deployment(app_extensions=[{"extension": serving}]), "/health").status == 200
    assert serving.seen[:2] == ["before", "open"]
    assert sorted(serving.seen[2:]) == ["after", "close"]


def test_a_failed_start_is_undone_and_may_be_tried_again() -> None:
    """What was opened is closed, and the next start opens it anew, which Quart's own generators could not."""
    serving = Serving(failing=1)
    made = deployment(app_extensions=[{"extension": serving}])

    async def main() -> None:
        with pytest.raises(StartupError, match="no model"):
            await made.start()
        assert serving.seen == ["before", "open", "close"]
        await made.start()
        await made.stop()

    asyncio.run(main())
    assert serving.seen[3:5] == ["before", "open"]
    assert sorted(serving.seen[5:]) == ["after", "close"]


def test_native_applications_are_started_too() -> None:
    """A Quart application that is a native endpoint serves as long as the deployment, once."""
    serving, app = Serving(), samples.host()
    app.before_serving(serving._before)
    app.after_serving(serving._after)
    specs = [{"path": path, "handler": app, "native": True} for path in ("/one", "/two")]
    assert [each.body for each in ask(deployment(*specs), "/one/own", "/two/own")] == [b"of the host"] * 2
    assert serving.seen == ["before", "after"]


# Settings


def test_app_kwargs_are_quarts(tmp_path: Any) -> None:
    """They reach its constructor; a folder of files is served, with the key."""
    (tmp_path / "a.txt").write_text("a")
    made = deployment(app_kwargs={"static_folder": str(tmp_path), "static_url_path": "/static"}, auth_key=KEY)
    closed, opened = ask(made, "/static/a.txt", Ask(path="/static/a.txt", headers=(BEARER,)))
    assert (closed.status, opened.status, opened.body) == (401, 200, b"a")


def test_options_of_a_rule_are_quarts() -> None:
    """`extra_kwargs` go to `add_url_rule`, the name among them; the method has a field of its own."""
    spec = {"path": "/h", "method": "GET", "handler": samples.ambient}
    made = deployment({**spec, "extra_kwargs": {"name": "mine", "defaults": {}}})
    assert "mine" in runner_of(made).asgi_app.view_functions
    with pytest.raises(DefinitionError, match="field 'method'"):
        deployment({**spec, "extra_kwargs": {"methods": ["PUT"]}})


def test_the_application_is_asgi_by_itself() -> None:
    """The framework's application is what extensions and tests of users call."""
    app: ASGIApp = runner_of(deployment()).entry_point()
    assert isinstance(app, Quart)
