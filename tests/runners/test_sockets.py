"""Where WebSockets of ours are registered, on every framework."""

import asyncio
import base64

import pytest

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from tests.http.wire import Ask, Reply, ask_app, handshake, websocket_scope

KEY = "first-key"
BEARER = (b"authorization", b"Bearer first-key")
FLAVORS = ["starlette", "fastapi", "django", "quart"]
PATH = "/stream"


def hello() -> str:
    return "hello"


async def anything(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept every WebSocket, so that who is asked shows."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-from", b"native")]})
    else:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def nothing(app_runner: object) -> None:
    """With any extension requests go through the framework."""


def made(flavor: str, *, through: bool) -> Deployment:
    pytest.importorskip(flavor)
    native = {"path": "/", "handler": anything, "native": True, "auth_required": False}
    extensions = [{"extension": nothing}] if through else []
    settings = {"custom_endpoints": [native], "app_extensions": extensions}
    flavored = {"deployment_app_runner_flavor": flavor, "auth_key": KEY, "store_url": "memory:"}
    return Deployment(hello, {**settings, **flavored}, layers=())


def shaken(app: ASGIApp, path: str, *headers: tuple[bytes, bytes], subprotocol: str | None = None) -> Message:
    offered = [] if subprotocol is None else [subprotocol]
    reply: Reply = asyncio.run(handshake(app, {**websocket_scope(Ask(path=path, headers=headers), offered)}))
    return reply.messages[0]


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("flavor", FLAVORS)
def test_nothing_native_comes_before_it(flavor: str, through: bool) -> None:
    """An open application that takes every path neither answers it nor opens it."""
    app = made(flavor, through=through).asgi_app
    assert shaken(app, PATH)["type"] == "websocket.close"
    bearer = "bearer." + base64.urlsafe_b64encode(KEY.encode()).decode()
    for opened in (shaken(app, PATH, BEARER), shaken(app, PATH, subprotocol=bearer)):
        assert opened["type"] == "websocket.accept"
        assert b"x-from" not in dict(opened["headers"])
    assert dict(shaken(app, "/other")["headers"])[b"x-from"] == b"native"


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("flavor", FLAVORS)
def test_it_is_no_endpoint_of_http(flavor: str, through: bool) -> None:
    """Requests pass it by, whatever their method: what else is at the path answers."""
    app = made(flavor, through=through).asgi_app
    replies = ask_app(app, *(Ask(method, PATH, [BEARER]) for method in ("GET", "POST", "WEBSOCKET")))
    assert [reply.status for reply in replies] == [299, 299, 299]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_it_has_a_name(flavor: str) -> None:
    """By which the framework makes its path."""
    app = made(flavor, through=False).app_runner.asgi_app
    if flavor == "django":
        from django.urls import reverse

        path = reverse("stream_socket", urlconf=app)  # type: ignore[arg-type]
    elif flavor == "quart":
        rules = app.url_map.iter_rules("stream_socket")  # type: ignore[attr-defined]
        path = next(rules).rule
    else:
        path = app.url_path_for("stream_socket")  # type: ignore[attr-defined]
    assert str(path) == PATH
