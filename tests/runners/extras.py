"""What users add to a deployment: handlers, middleware, extensions and hooks, found by import string too."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from asgipipe import BaseAppExtension, BaseDeploymentAppRunner, pipeline
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send

KEY = "let-me-in"
BEARER = (b"authorization", b"Bearer " + KEY.encode())
PAGE = (b"accept", b"text/html")

needs_body_limits = pytest.mark.skipif(
    "max_body_size" not in inspect.signature(Route).parameters, reason="Starlette has body limits of its own since 1.6"
)


@pipeline
async def hello(name: str = "World") -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


class City(BaseModel):
    name: str
    population: int


# Handlers


def grown(city: City, factor: int = 2) -> City:
    """Let a city grow."""
    return City(name=city.name, population=city.population * factor)


async def shouted(request: Request) -> Response:
    return PlainTextResponse((await request.body()).upper())


def counted(request: Request) -> Response:
    return JSONResponse({"length": len(request.url.path), "query": request.query_params.get("q")})


class Greeter:
    """A builder class: what it makes is called for every request."""

    def __init__(self, app_runner: BaseDeploymentAppRunner, greeting: str = "Hi") -> None:
        self._deployment = app_runner.deployment
        self._greeting = greeting

    async def __call__(self, name: str) -> str:
        return f"{self._greeting} {name} from {self._deployment.name}"


class RequestGreeter:
    """A builder class of a handler that takes the request."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    async def __call__(self, request: Request) -> Response:
        return PlainTextResponse(f"{self._greeting} {request.query_params['name']}")


def build_greeter(app_runner: BaseDeploymentAppRunner, greeting: str = "Hey") -> Callable[[str], str]:
    def greet(name: str) -> str:
        return f"{greeting} {name} from {app_runner.deployment.name}"

    return greet


# Native objects


async def told(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.url.path}")


class Told(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return await told(request)


async def echoed(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.url.path)
    await websocket.close()


async def plain_app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await PlainTextResponse(f"{scope['method']} {scope['path']}")(scope, receive, send)


def native_route() -> Route:
    return Route("/n", told)


def native_router() -> Router:
    return Router([Route("/told", told, methods=["GET", "POST"]), WebSocketRoute("/ws", echoed)])


def native_mount() -> Mount:
    return Mount("/n", routes=[Route("/told", told), WebSocketRoute("/ws", echoed)])


route = native_route()


# Middleware


class Tagging:
    """Notes that a request passed in the header `x-passed`."""

    def __init__(self, app: ASGIApp, tag: str = "class") -> None:
        self.app = app
        self.tag = tag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await tagging(self.app, scope, receive, send, tag=self.tag)


async def tagging(app: ASGIApp, scope: Scope, receive: Receive, send: Send, tag: str = "function") -> None:
    async def tagged(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-passed", tag.encode())]
        await send(message)

    await app(scope, receive, tagged)


async def dispatching(
    request: Request, call_next: Callable[[Request], Awaitable[Response]], tag: str = "native"
) -> Response:
    response = await call_next(request)
    response.headers.append("x-passed", tag)
    return response


# Extensions


def add_route(app_runner: BaseDeploymentAppRunner, path: str = "/added") -> None:
    app: Any = app_runner.asgi_app
    app.add_route(path, told)


class AddRoute(BaseAppExtension):
    def __init__(self, path: str = "/added") -> None:
        self.path = path

    def install(self, app_runner: BaseDeploymentAppRunner) -> None:
        add_route(app_runner, self.path)


adding = AddRoute()


async def async_extension(app_runner: BaseDeploymentAppRunner) -> None:
    raise AssertionError("never called")


def told_route(path: str, *methods: str) -> Route:
    return Route(path, told, methods=list(methods))
