"""Routes: ours, with an ASGI application in the place of a FastAPI endpoint, and the native ones."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute, Match

from asgipipe.errors import DefinitionError
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.routes import path_pattern
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send

Options = dict[str, Any]  # any keyword arguments of a FastAPI route

_OF_RESULTS = frozenset({"form_limits", "response_class", "status_code", "strict_content_type"})


class OwnRoute(APIRoute):
    """A route of ours, which the table knows."""

    methods: set[str]

    def __init__(self, path: str, endpoint: Callable[..., object], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = path_pattern(path)
        if "GET" in self.methods:  # FastAPI answers 405 to HEAD
            self.methods.add("HEAD")
        self._end = "" if "{" in path else path
        if isinstance(endpoint, Row) and getattr(self, "max_body_size", None) is None:
            self.app = _Shortened(self, endpoint.app)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Routes are tried one after the other: what cannot match should not cost the 1 µs of FastAPI's own look.
        return super().matches(scope) if scope["path"].endswith(self._end) else (Match.NONE, {})


class OwnSocketRoute(APIWebSocketRoute):
    """A WebSocket of ours, which the table knows."""


class Row:
    """An ASGI application as an endpoint: FastAPI solves the route's dependencies, and then it answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.__doc__ = None  # FastAPI would take that of the class for a description

    async def __call__(self, request: Request) -> Response:
        return RowResponse(self.app, request)


class RowResponse(Response):
    """What an ASGI application answers; a body that a dependency has read is given to it again."""

    media_type = None

    def __init__(self, app: ASGIApp, request: Request) -> None:
        super().__init__()
        self._app = app
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = getattr(self._request, "_body", None)
        await self._app(scope, receive if body is None else _Replay(body, receive), send)
        if self.background is not None:  # tasks of the dependencies
            await self.background()


class _Replay:
    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        return await self._receive() if body is None else {"type": "http.request", "body": body, "more_body": False}


class _Shortened:
    """Leaves FastAPI's way to the endpoint out, some 50 µs, as long as there are no dependencies on it."""

    def __init__(self, route: APIRoute, app: ASGIApp) -> None:
        self._through = route.app
        self._dependant = route.dependant
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._through if self._dependant.dependencies else self._app
        await app(scope, receive, send)


class HeadAsGet:
    """Makes a GET of a HEAD where only that is answered; the body is left out further out."""

    def __init__(self, app: ASGIApp, fastapi: FastAPI) -> None:
        self._app = app
        self._fastapi = fastapi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(as_routed(self._fastapi, scope), receive, send)


def as_routed(app: FastAPI, scope: Scope) -> Scope:
    """Return `scope` with the method by which a route is found."""
    if scope.get("method") != "HEAD":
        return scope
    for method in ("HEAD", "GET"):
        probe = {**scope, "method": method}
        if any(route.matches(probe)[0] is Match.FULL for route in app.router.routes):
            return probe
    return scope


def add_own_route(
    app: FastAPI,
    endpoint: Endpoint,
    function: Callable[..., object],
    options: Options,
    route_class: Callable[..., OwnRoute] = OwnRoute,
) -> OwnRoute:
    """Register a route of ours as FastAPI's users do, so that it gets what their `app_kwargs` say of all routes."""
    if "methods" in options:
        raise DefinitionError("extra_kwargs: the method is given by the endpoint's own field 'method'")
    app.router.add_api_route(
        endpoint.path,
        function,
        methods=[endpoint.method],
        route_class_override=cast(type[OwnRoute], route_class),
        **{"name": endpoint.name, **options},
    )
    return cast(OwnRoute, app.router.routes[-1])


def add_own_socket(app: FastAPI, socket: Socket) -> None:
    """Register a WebSocket of ours, with what `app_kwargs` say of all routes."""

    async def connected(websocket: WebSocket) -> None:
        await socket.app(websocket.scope, websocket.receive, websocket.send)

    route = OwnSocketRoute(
        socket.path,
        connected,
        name=socket.name,
        dependencies=app.router.dependencies,
        dependency_overrides_provider=app,
    )
    route.path_regex = path_pattern(socket.path)
    app.router.routes.append(route)


def row_options(options: Mapping[str, object]) -> Options:
    """Return the options of a route whose endpoint is an ASGI application. Raises DefinitionError for those of others.

    What FastAPI would do with a result has no effect where the answer is ours.
    """
    for name in options:
        if name in _OF_RESULTS or name.startswith("response_model"):
            raise DefinitionError(
                f"extra_kwargs: {name!r} is for handlers that FastAPI calls; give this one a parameter of a type of"
                " FastAPI's, such as Request, and it is one"
            )
    return {"include_in_schema": False, **options}


def alone(route: APIRoute | APIWebSocketRoute) -> APIRouter:
    """Return a router with one route in it, which can be included."""
    router = APIRouter()
    router.routes.append(cast(BaseRoute, route))
    return router
