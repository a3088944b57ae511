"""Custom middleware: every kind, its order, and that it changes nothing else."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import WebSocketRoute

from asgipipe import MiddlewareSpec
from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.middleware import in_order
from tests.http.wire import Ask, Reply, ask, ask_one, deployed, handshake, invoke, websocket_scope
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, PAGE, Tagging, dispatching, hello, tagging

RUN = invoke({"parameters": {"name": "you"}})


class Dispatching(BaseHTTPMiddleware):
    def __init__(self, app: ASGIApp, tag: str = "base") -> None:
        super().__init__(app, dispatch=lambda request, call_next: dispatching(request, call_next, tag))


KINDS: dict[str, dict[str, Any]] = {
    "class": {"middleware": Tagging},
    "class of Starlette's": {"middleware": Dispatching},
    "function": {"middleware": tagging},
    "import string of a class": {"middleware": "tests.runners.extras:Tagging"},
    "import string of a function": {"middleware": "tests.runners.extras.tagging"},
    "native class": {"middleware": Tagging, "native": True},
    "native BaseHTTPMiddleware": {"middleware": Dispatching, "native": True},
    "native function": {"middleware": dispatching, "native": True},
    "native import string": {"middleware": "tests.runners.extras:dispatching", "native": True},
}
ASKED = {
    200: Ask(path="/info"),
    202: Ask(path="/mine"),
    301: Ask(path="/", headers=[PAGE]),
    404: Ask(path="/nowhere"),
    405: Ask("PUT", "/invoke"),
    422: invoke({"parameters": {"age": 1}}),
    500: Ask(path="/broken"),
}


async def broken(request: Request) -> Response:
    raise RuntimeError("never mind")


def settings(*specs: Mapping[str, object], **more: object) -> dict[str, object]:
    endpoints = [
        {"path": "/mine", "method": "GET", "handler": lambda: 1},
        {"path": "/broken", "method": "GET", "handler": broken},
        {"path": "/ws", "handler": WebSocketRoute("/ws", extras.echoed), "native": True},
    ]
    return {"custom_middlewares": list(specs), "custom_endpoints": endpoints, **more}


def passed(reply: Reply) -> list[bytes]:
    """Return what the middleware noted, from the innermost to the outermost."""
    return reply.all(b"x-passed")


# Starlette answers failures outside of its middleware.
SEEN = [
    (kind, asked) for kind in KINDS for status, asked in ASKED.items() if status < 500 or not kind.startswith("native")
]


@pytest.mark.parametrize(("kind", "asked"), SEEN)
def test_every_request_passes_exactly_once(kind: str, asked: Ask) -> None:
    """Built-in, custom and unknown paths, pages of the dashboard and failures, with each kind of middleware."""
    assert len(passed(ask_one(hello, asked, settings(KINDS[kind])))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_middleware_stands_inside_of_auth(kind: str) -> None:
    """What is refused for want of a key never reaches it; with the key, or at open paths, it does."""
    made = settings(KINDS[kind], auth_key=KEY)
    denied, granted, probe, page = ask(
        hello,
        made,
        Ask(path="/info"),
        Ask(path="/info", headers=[BEARER]),
        Ask(path="/health"),
        Ask(path="/", headers=[PAGE]),
    )
    assert [len(passed(reply)) for reply in (denied, granted, probe, page)] == [0, 1, 1, 1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "class of" not in kind and "Base" not in kind])
def test_arguments_reach_the_middleware(kind: str) -> None:
    """`init_kwargs`, for classes and functions, native or not."""
    assert passed(ask_one(hello, Ask(path="/info"), settings({**KINDS[kind], "init_kwargs": {"tag": "mine"}}))) == [
        b"mine"
    ]


def test_a_middleware_object_of_starlettes() -> None:
    """`Middleware(cls, ...)` brings its own arguments; further ones are refused."""
    made = {"middleware": Middleware(Tagging, tag="object"), "native": True}
    assert passed(ask_one(hello, Ask(path="/info"), settings(made))) == [b"object"]
    with pytest.raises(DefinitionError, match="a Middleware object has its arguments already"):
        deployed(hello, settings({**made, "init_kwargs": {"tag": "x"}}))


def test_extra_arguments_of_native_middleware() -> None:
    """`extra_kwargs` are for the framework, so they count for native middleware, beside `init_kwargs`."""
    made = {
        "middleware": GZipMiddleware,
        "native": True,
        "init_kwargs": {"minimum_size": 1},
        "extra_kwargs": {"compresslevel": 1},
    }
    reply = ask_one(hello, Ask(path="/info", headers=[(b"accept-encoding", b"gzip")]), settings(made))
    assert reply.header(b"content-encoding") == b"gzip"


def tag(name: str, order: int | None = None, *, native: bool = False, function: bool = False) -> dict[str, object]:
    middleware = (dispatching if native else tagging) if function else Tagging
    spec: dict[str, object] = {"middleware": middleware, "native": native, "init_kwargs": {"tag": name}}
    return spec if order is None else {**spec, "order": order}


@pytest.mark.parametrize(
    ("specs", "outermost_first"),
    [
        ([tag("a"), tag("b"), tag("c")], "abc"),
        ([tag("a", 3), tag("b", 2), tag("c", -1)], "cba"),
        ([tag("a", 1), tag("b", 0, function=True), tag("c", 1, function=True), tag("d", 0)], "bdac"),
        ([tag("a", native=True), tag("b", native=True, function=True), tag("c", native=True)], "abc"),
        ([tag("a", 2, native=True), tag("b", 1, native=True, function=True), tag("c", 3, native=True)], "bac"),
        (
            [tag("a", 1, native=True), tag("b", 0), tag("c", 2), tag("d", 3, native=True), tag("e", 4, function=True)],
            "bacde",
        ),
        ([tag("a", native=True), tag("b"), tag("c", native=True, function=True), tag("d")], "abcd"),
    ],
)
def test_lower_orders_are_further_out(specs: list[dict[str, object]], outermost_first: str) -> None:
    """Equal orders keep the order of the list; native and ASGI middleware stand in one row."""
    replies = ask(hello, settings(*specs), Ask(path="/info"), Ask(path="/mine"), Ask(path="/nowhere"), RUN)
    for reply in replies:
        assert b"".join(reversed(passed(reply))).decode() == outermost_first


def test_the_order_is_stable() -> None:
    """Specs of the same order keep their places."""
    specs = [
        MiddlewareSpec(middleware=Tagging, order=order, init_kwargs={"tag": name})
        for name, order in zip("abcd", (1, 0, 1, 0), strict=True)
    ]
    assert [spec.init_kwargs["tag"] for spec in in_order(specs)] == ["b", "d", "a", "c"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "native" in kind])
def test_native_middleware_changes_no_answer(kind: str) -> None:
    """Through the framework every answer is byte for byte what it is on the short way, but for the middleware's own."""
    asked = [
        *(Ask(path=path) for path in ("/ready", "/openapi.json", "/docs", "/redoc", "/", "/mine", "/x", "/docs/")),
        *(Ask("HEAD", path) for path in ("/ready", "/docs", "/x", "/invoke")),
        *(Ask(method, "/invoke") for method in ("GET", "PUT", "OPTIONS")),
        Ask(path="/page", headers=[PAGE]),
        invoke({"parameters": {"name": 1}}),
        invoke(b"{"),
        Ask("POST", "/invoke", (), b"x"),
    ]
    without = ask(hello, settings(), *asked)
    through = ask(hello, settings(KINDS[kind]), *asked)
    volatile = (b"x-request-id", b"x-passed")
    for one, other, of in zip(without, through, asked, strict=True):
        assert [h for h in one.headers if h[0] not in volatile] == [h for h in other.headers if h[0] not in volatile], (
            of
        )
        assert (one.status, one.body) == (other.status, other.body), of


@pytest.mark.parametrize("kind", ["class", "function", "native class", "native function"])
def test_websockets_pass_too(kind: str) -> None:
    """A middleware sees handshakes, and lets them through."""
    reply = asyncio.run(handshake(deployed(hello, settings(KINDS[kind])), websocket_scope(Ask(path="/ws"))))
    assert [message["type"] for message in reply.messages] == ["websocket.accept", "websocket.send", "websocket.close"]


class Refusing:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/mine":
            raise ValueError("secret")
        if scope["path"] == "/info":
            await PlainTextResponse("instead", 203)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.mark.parametrize("native", [False, True])
def test_a_middleware_may_answer_and_may_fail(native: bool) -> None:
    """Its own answer is sent, with our headers; what it raises is a 500 problem that says nothing."""
    own, failed, other = ask(
        hello, settings({"middleware": Refusing, "native": native}), Ask(path="/info"), Ask(path="/mine"), RUN
    )
    assert (own.status, own.body, len(own.all(b"x-frame-options"))) == (203, b"instead", 1)
    assert failed.problem["type"] == "urn:asgipipe:internal"
    assert other.status == 200


class Counting:
    made = 0

    def __init__(self, app: ASGIApp) -> None:
        type(self).made += 1
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("native", [False, True])
def test_a_class_is_instantiated_once(native: bool) -> None:
    """Once for the deployment, when it is built."""
    Counting.made = 0
    app = deployed(hello, settings({"middleware": Counting, "native": native}))
    assert Counting.made == 1
    del app
    ask(hello, settings({"middleware": Counting, "native": native}), RUN, RUN)
    assert Counting.made == 2


class Unmakable:
    def __init__(self, app: ASGIApp) -> None:
        raise OSError("no such model")


def sync_dispatch(request: Request, call_next: object) -> Response:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"middleware": Tagging, "init_kwargs": {"tga": "x"}}, "is called as (app, **init_kwargs)"),
        (
            {"middleware": tagging, "init_kwargs": {"tga": "x"}},
            "is called as (app, scope, receive, send, **init_kwargs)",
        ),
        ({"middleware": dispatching}, "is called as (app, scope, receive, send, **init_kwargs)"),
        ({"middleware": Tagging, "extra_kwargs": {"tag": "x"}}, "extra_kwargs are for the framework"),
        ({"middleware": "tests.runners.extras:KEY"}, "is not callable"),
        ({"middleware": "tests.runners.extras:Taging"}, "has no attribute 'Taging'"),
        ({"middleware": Unmakable}, "raised OSError: no such model"),
        ({"middleware": Tagging, "native": True, "init_kwargs": {"tga": "x"}}, "is called as (app, **init_kwargs)"),
        ({"middleware": tagging, "native": True}, "is called as (request, call_next, **init_kwargs)"),
        ({"middleware": sync_dispatch, "native": True}, "make it 'async def'"),
        ({"middleware": "tests.runners.extras:KEY", "native": True}, "is neither a class nor a function"),
        ({"middleware": Unmakable, "native": True}, "raised OSError: no such model"),
    ],
)
def test_middleware_that_cannot_be_made_is_refused(spec: dict[str, object], reason: str) -> None:
    """Before the first request, with a message that names it."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, settings(spec))
    assert reason in str(refused.value)


def test_a_page_of_the_dashboard_is_served_with_middleware_of_the_frameworks(tmp_path: Path) -> None:
    """Files and client-side routes are answered through the framework as on the short way, with and without the key."""
    (tmp_path / "index.html").write_text("<p>mine</p>")
    made = settings(KINDS["native function"], dashboard_files_path=str(tmp_path), auth_key=KEY)
    for headers in ([PAGE], [PAGE, BEARER]):
        for path in ("/", "/index.html", "/somewhere"):
            reply = ask_one(hello, Ask("GET", path, headers), made)
            assert (reply.body, len(passed(reply))) == (b"<p>mine</p>", 1)
