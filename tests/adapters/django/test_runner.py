"""The Django app runner: what Django adds to a deployment, and what it leaves alone."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("django")

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path, reverse
from django.utils.decorators import async_only_middleware
from django.views import View

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe_django.application import DjangoApplication
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import Ask, Reply, ask, ask_app, handshake, http_scope, invoke, reply, websocket_scope
from tests.runners.extras import BEARER, KEY, hello, plain_app

FLAVOR = {"deployment_app_runner_flavor": "django"}


def get(path: str, handler: object, **more: object) -> dict[str, object]:
    return {"path": path, "method": "GET", "handler": handler, **more}


def native(path: str, handler: object, **more: object) -> dict[str, object]:
    return {"path": path, "handler": handler, "native": True, **more}


def django(*endpoints: dict[str, object], **more: object) -> dict[str, object]:
    return {**FLAVOR, "custom_endpoints": list(endpoints), **more}


# Handlers and views


def told(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.method} {request.path}")


def greeted(request: HttpRequest, name: str) -> str:
    return f"{name} at {request.path_info}"


async def measured(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"length": len(request.body)})


async def loose(request) -> dict[str, object]:  # type: ignore[no-untyped-def]  # by its name
    return {"route": request.resolver_match.route}


class Told(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return told(request)


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> Any:
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(pieces())


def test_handlers_get_djangos_request() -> None:
    """Sync or async, by annotation or name; what the path captures, and values that become JSON."""
    made = django(
        get("/told", told),
        get("/greeted/{name}", greeted),
        {"path": "/measured", "method": "POST", "handler": measured},
        get("/files/{rest:path}", loose),
        get("/streamed", streamed),
    )
    replies = ask(
        hello,
        made,
        Ask(path="/told"),
        Ask(path="/greeted/Ada"),
        Ask("POST", "/measured", (), b"x" * 3_000_000),  # beyond Django's own limit, below ours
        Ask(path="/files/a/b"),
        Ask(path="/streamed"),
    )
    assert [reply.status for reply in replies] == [200] * 5
    assert replies[0].body == b"GET /told"
    assert replies[1].json() == "Ada at /greeted/Ada"
    assert replies[2].json() == {"length": 3_000_000}
    assert replies[3].json()["route"].startswith("^files/")
    assert (replies[4].body, replies[4].complete) == (b"ab", True)


def loose_response(code: int = 201):  # type: ignore[no-untyped-def]  # that is the point
    return HttpResponse("made", status=code)


async def loose_pieces():  # type: ignore[no-untyped-def]  # that is the point
    return streamed(HttpRequest())


def declared_response() -> HttpResponse:
    return HttpResponse("made", status=201)


@pytest.mark.parametrize("through", [False, True])
def test_responses_of_djangos_need_no_request_and_no_annotation(through: bool) -> None:
    """Of a handler with typed arguments too; on the short way and through Django the answer is the same."""
    endpoints = get("/undeclared", loose_response), get("/pieces", loose_pieces), get("/declared", declared_response)
    made = django(*endpoints, app_extensions=[{"extension": lambda app_runner: None}] if through else [])
    asked = Ask(path="/undeclared", scope={"query_string": b"code=202"}), Ask(path="/pieces"), Ask(path="/declared")
    one, pieces, two = ask(hello, made, *asked)
    assert (one.status, one.body, one.header(b"content-length")) == (202, b"made", b"4")
    assert (pieces.status, pieces.body, pieces.complete) == (200, b"ab", True)
    assert (two.status, two.body, two.header(b"content-length")) == (201, b"made", b"4")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (lambda request, other: None, "read 'other' from the request"),
        (lambda other, request: None, "put the request first"),
    ],
)
def test_handlers_that_cannot_be_called_are_refused(handler: Callable[..., object], reason: str) -> None:
    """When the deployment is built, saying what to write instead."""
    with pytest.raises(DefinitionError, match=reason):
        Deployment(hello, django(get("/x", handler)), layers=())


def test_path_values_are_text() -> None:
    """A handler that wants a number from the path is told so when it is built."""

    def handler(request: HttpRequest, name: int) -> None: ...

    with pytest.raises(DefinitionError, match="annotate it as str"):
        Deployment(hello, django(get("/x/{name}", handler)), layers=())


# Native objects

PATTERNS = [path("told", told, name="told"), re_path(r"^deep/(\d+)$", lambda request, n: HttpResponse(n))]


@pytest.mark.parametrize(
    ("handler", "where", "answered", "unknown"),
    [
        (told, "/n", ["/n"], ["/n/", "/n/x"]),
        (Told.as_view(), "/n", ["/n"], ["/n/"]),
        (greeted_view := (lambda request, name: HttpResponse(name)), "/n/{name}", ["/n/x"], ["/n/x/y"]),
        (path("told", told), "/n", ["/n/told"], ["/told", "/n"]),
        (path("n/told", told), "/n", ["/n/told"], ["/told", "/n/n/told"]),
        (PATTERNS, "/n", ["/n/told", "/n/deep/12"], ["/n", "/n/deep/x", "/told"]),
        (include((PATTERNS, "app"), namespace="space"), "/n", ["/n/told"], ["/told"]),
        ((PATTERNS, "app"), "", ["/told"], ["/n/told"]),
        (plain_app, "/n", ["/n", "/n/", "/n/x/y"], ["/nn"]),
    ],
)
@pytest.mark.parametrize("root", ["", "/w"])
def test_native_objects_answer_at_or_below_their_path(
    handler: object, where: str, answered: list[str], unknown: list[str], root: str
) -> None:
    """Views at the path, patterns and applications below it; nothing redirects between /x and /x/."""
    made = django(native(where, handler), root_url_path=root)
    replies = ask(hello, made, *(Ask(path=root + one) for one in [*answered, *unknown]))
    assert [reply.status for reply in replies] == [200] * len(answered) + [404] * len(unknown)
    assert all(len(reply.all(b"x-request-id")) == 1 for reply in replies)


@pytest.mark.parametrize(
    ("handler", "reason"), [(Told, r"Told.as_view\(\)"), ([1], "patterns"), (object(), "neither a view")]
)
def test_what_is_no_native_object_is_refused(handler: object, reason: str) -> None:
    """When the deployment is built."""
    with pytest.raises(DefinitionError, match=reason):
        Deployment(hello, django(native("/n", handler)), layers=())


def test_native_objects_need_the_key_unless_declared_open() -> None:
    """By the runner's own patterns; a WebSocket application too."""
    made = django(
        native("/open", told, auth_required=False), native("/n", PATTERNS), native("/ws", plain_app), auth_key=KEY
    )
    replies = ask(
        hello, made, *map(path_of, ("/open", "/n/told", "/ws", "/n/none")), Ask(path="/n/told", headers=[BEARER])
    )
    assert [reply.status for reply in replies] == [200, 401, 401, 401, 200]
    app = Deployment(hello, made, layers=()).asgi_app
    assert kinds(app, "/ws") == ["websocket.close"]
    assert kinds(app, "/ws", BEARER)[0] == "websocket.accept"
    assert kinds(app, "/n/told", BEARER) == ["websocket.close"]


def path_of(path: str) -> Ask:
    return Ask(path=path)


def kinds(app: ASGIApp, path: str, *headers: tuple[bytes, bytes]) -> list[str]:
    import asyncio

    reply = asyncio.run(handshake(app, websocket_scope(Ask(path=path, headers=headers))))
    return [message["type"] for message in reply.messages]


# Errors


def raising(error: BaseException) -> Callable[[HttpRequest], HttpResponse]:
    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("through", [False, True])
def test_exceptions_of_djangos_are_problems(debug: bool, through: bool) -> None:
    """With their status and nothing of their text; never a page of Django's, with DEBUG neither."""
    from django.test.utils import override_settings

    errors = {
        404: Http404("secret"),
        403: PermissionDenied("secret"),
        400: SuspiciousOperation("secret"),
        413: RequestDataTooBig("secret"),
        500: LookupError("secret"),
    }
    views = [get(f"/{status}", raising(error)) for status, error in errors.items()]
    more = [native(f"/n{status}", raising(error)) for status, error in errors.items()]
    middlewares = [{"middleware": Passing, "native": True}] if through else []
    made = django(*views, *more, native("/exit", raising(SystemExit(3))), native("/bad", raising(BadRequest("secret"))))
    with override_settings(DEBUG=debug):
        replies = ask(
            hello,
            {**made, "custom_middlewares": middlewares},
            *(Ask(path=f"/{prefix}{status}") for prefix in ("", "n") for status in errors),
            Ask(path="/exit"),
            Ask(path="/bad"),
        )
    assert [reply.problem["status"] for reply in replies] == [*errors, *errors, 500, 400]
    assert not any(b"secret" in reply.body for reply in replies)


@pytest.mark.parametrize("through", [False, True])
def test_405_names_every_method(through: bool) -> None:
    """Those of rows of ours, and of a class-based view beside them."""
    middlewares = [{"middleware": Passing, "native": True}] if through else []
    made = django(get("/n", told), {"path": "/n", "method": "PUT", "handler": told}, native("/v", Told.as_view()))
    wrong, view = ask(hello, {**made, "custom_middlewares": middlewares}, Ask("DELETE", "/n"), Ask("DELETE", "/v"))
    assert (wrong.problem["status"], wrong.header(b"allow")) == (405, b"GET, HEAD, PUT")
    assert (view.problem["status"], view.header(b"allow")) == (405, b"GET, HEAD, OPTIONS")


# Middleware

NOTED: list[str] = []


async def noting(app: ASGIApp, scope: Scope, receive: Receive, send: Send, tag: str) -> None:
    NOTED.append(tag)
    await app(scope, receive, send)


class Passing:
    """Sync middleware in Django's style."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase], tag: str = "sync") -> None:
        self.get_response = get_response
        self.tag = tag

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        NOTED.append(self.tag)
        request.seen = self.tag  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Passed"] = ", ".join(filter(None, (response.get("X-Passed"), self.tag)))
        return response


@async_only_middleware
def passing(get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]], tag: str = "async") -> object:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        NOTED.append(tag)
        request.seen = tag  # type: ignore[attr-defined]
        response = await get_response(request)
        response["X-Passed"] = ", ".join(filter(None, (response.get("X-Passed"), tag)))
        return response

    return middleware


def seen(request: HttpRequest) -> str:
    return str(getattr(request, "seen", None))


@pytest.mark.parametrize("middleware", [Passing, passing, "tests.adapters.django.test_runner:Passing"])
def test_native_middleware_sees_every_request(middleware: object) -> None:
    """Built-in, typed, Django's own and refusals; the handler gets the very request that the middleware saw."""
    made = django(
        get("/seen", seen),
        get("/typed/{n}", lambda n: n),
        native("/n", told),
        custom_middlewares=[{"middleware": middleware, "native": True, "init_kwargs": {"tag": "mine"}}],
    )
    asked = (Ask(path="/seen"), Ask(path="/typed/x"), Ask(path="/n"), Ask(path="/nope"), invoke({}), Ask(path="/docs"))
    replies = ask(hello, made, *asked)
    assert [reply.all(b"x-passed") for reply in replies] == [[b"mine"]] * len(asked)
    assert [reply.status for reply in replies] == [200, 200, 200, 404, 200, 200]
    assert replies[0].json() == "mine"


def test_one_order_for_all_middleware() -> None:
    """ASGI middleware stands inside, between and outside of native ones, as `order` says."""

    def layer(middleware: object, order: int, tag: str, native: bool) -> dict[str, object]:
        return {"middleware": middleware, "order": order, "init_kwargs": {"tag": tag}, "native": native}

    made = django(
        get("/seen", seen),
        {"path": "/length", "method": "POST", "handler": measured},
        custom_middlewares=[
            layer(noting, 4, "4", False),
            layer(Passing, 3, "3", True),
            layer(noting, 2, "2", False),
            layer(passing, 1, "1", True),
            layer(noting, 0, "0", False),
        ],
    )
    NOTED.clear()
    one, length = ask(hello, made, Ask(path="/seen"), Ask("POST", "/length", (), b"x" * 200_000))
    assert (one.status, NOTED[:5]) == (200, ["0", "1", "2", "3", "4"])
    assert one.json() == "3"  # what native middleware put on the request is still there further in
    assert length.json() == {"length": 200_000}


def undeclared(get_response: object) -> object:
    async def middleware(request: HttpRequest) -> None: ...

    return middleware


@pytest.mark.parametrize(
    ("middleware", "reason"),
    [(undeclared, "async_only_middleware"), (lambda: None, "called as"), (lambda get_response: None, "returned None")],
)
def test_middleware_that_cannot_be_used_is_refused(middleware: object, reason: str) -> None:
    """When the deployment is built."""
    with pytest.raises(DefinitionError, match=reason):
        Deployment(hello, django(custom_middlewares=[{"middleware": middleware, "native": True}]), layers=())


# The framework's application


def test_rows_of_ours_are_patterns_with_names() -> None:
    """For extensions, which add patterns after them, and for `reverse`."""

    def extend(app_runner: Any) -> None:
        app_runner.asgi_app.urlpatterns.append(path("added", told, name="added"))
        app_runner.asgi_app.urlpatterns.append(path("health", told))

    made = django(get("/items/{name}", greeted), app_extensions=[{"extension": extend}], auth_key=KEY)
    deployment = Deployment(hello, made, layers=())
    app: Any = deployment.app_runner.asgi_app
    assert isinstance(app, DjangoApplication)
    assert reverse("invoke", urlconf=app) == "/invoke"
    assert reverse("greeted", urlconf=app, kwargs={"name": "a b"}) == "/items/a%20b"
    denied, granted, health = ask_app(
        deployment.asgi_app, Ask(path="/added"), Ask(path="/added", headers=[BEARER]), Ask(path="/health")
    )
    assert (denied.status, granted.body, health.json()["status"]) == (401, b"GET /added", "healthy")


def test_reverse_inside_a_view_knows_the_prefix() -> None:
    """Names of the deployment's own patterns, below the place where it is served, in its threads too."""

    def linked(request: HttpRequest) -> HttpResponse:
        return HttpResponse(reverse("info"))

    app = Deployment(hello, django(native("/linked", linked)), layers=()).asgi_app
    (reply,) = ask_app(app, Ask(path="/p/linked", scope={"root_path": "/p"}))
    assert reply.body == b"/p/info"


@pytest.mark.parametrize("through", [False, True])
def test_answers_are_the_same_through_django(through: bool) -> None:
    """A row that no framework needs to see answers alike when native middleware makes it go through Django."""
    more: dict[str, object] = {"custom_middlewares": [{"middleware": Passing, "native": True}]} if through else {}
    made = django(get("/typed/{n}", lambda n: n), **more)
    asked = [Ask("HEAD", "/info"), Ask("PUT", "/invoke"), invoke(b"{"), Ask(path="/typed/%ff?\xff"), Ask(path="/docs")]
    assert [each.status for each in ask(hello, made, *asked)] == [200, 405, 400, 200, 200]


def test_django_works_without_a_project_and_leaves_the_process_alone() -> None:
    """No settings module, no time zone, no logging, no locale, no signal handlers of Django's."""
    program = (
        "import os, time, logging, locale, signal\n"
        "before = (os.environ.get('TZ'), time.tzname, logging.root.handlers[:], locale.getlocale(),"
        " signal.getsignal(signal.SIGTERM))\n"
        "from asgipipe import asgi\n"
        "app = asgi(lambda: 1, {'deployment_app_runner_flavor': 'django'})\n"
        "assert before == (os.environ.get('TZ'), time.tzname, logging.root.handlers[:], locale.getlocale(),"
        " signal.getsignal(signal.SIGTERM))\n"
        "assert not logging.getLogger('django').handlers\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run((sys.executable, "-W", "error", "-c", program), env={**environment, "TZ": "Asia/Tokyo"}, check=True)


def test_app_kwargs_are_settings_where_there_is_no_project() -> None:
    """They are in force in a fresh process, and refused where Django has been configured otherwise."""
    program = (
        "from asgipipe import asgi\n"
        "asgi(lambda: 1, {'deployment_app_runner_flavor': 'django', 'app_kwargs': {'SECRET_KEY': 'k'}})\n"
        "from django.conf import settings\n"
        "assert settings.SECRET_KEY == 'k'\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run((sys.executable, "-c", program), env=environment, check=True)
    Deployment(hello, FLAVOR, layers=())
    with pytest.raises(DefinitionError, match="put LANGUAGE_CODE into the settings of the project"):
        Deployment(hello, {**FLAVOR, "app_kwargs": {"LANGUAGE_CODE": "xx"}}, layers=())


def test_sync_views_run_in_the_deployments_threads() -> None:
    """In its own bounded pool, unless sync middleware stands around them: then in that one's thread."""
    import threading

    def thread(request: HttpRequest) -> HttpResponse:
        return HttpResponse(threading.current_thread().name)

    own: Reply = ask(hello, django(native("/t", thread)), Ask(path="/t"))[0]
    assert own.body.startswith(b"asgipipe-hello")
    around = django(native("/t", thread), custom_middlewares=[{"middleware": Passing, "native": True}])
    assert not ask(hello, around, Ask(path="/t"))[0].body.startswith(b"asgipipe-hello")


def test_sync_code_of_one_request_does_not_wait_for_that_of_another() -> None:
    """What async handlers call by `sync_to_async` has a thread for each request, as in Django."""
    meeting = threading.Barrier(2)

    async def met(request: HttpRequest) -> int:
        return await sync_to_async(meeting.wait)(PATIENCE)

    app = Deployment(hello, django(get("/met", met)), layers=()).asgi_app

    async def main() -> list[Reply]:
        async with lifespan(app):
            return await asyncio.gather(*(reply(app, Ask(path="/met")) for _ in range(2)))

    assert sorted(each.body for each in asyncio.run(main())) == [b"0", b"1"]


def test_a_stream_ends_when_its_client_leaves() -> None:
    """That of a response which nobody declared is closed at the disconnect."""
    closed = asyncio.Event()

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "tick"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def undeclared():  # type: ignore[no-untyped-def]  # that is the point
        return StreamingHttpResponse(ticks())

    app = Deployment(hello, django(get("/ticks", undeclared)), layers=()).asgi_app

    async def main() -> None:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def send(message: Message) -> None:
            if message.get("body"):
                inbox.put_nowait({"type": "http.disconnect"})

        async with lifespan(app):
            await asyncio.wait_for(app(http_scope(Ask(path="/ticks")), inbox.get, send), PATIENCE)
            await asyncio.wait_for(closed.wait(), PATIENCE)

    asyncio.run(main())
