"""The app runner: FastAPI is Starlette underneath, so what is here is what differs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, BackgroundTasks, FastAPI, UploadFile
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.params import Body, Depends, Param
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from fastapi.security import SecurityScopes
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from asgipipe.errors import DefinitionError, HTTPError, InternalError
from asgipipe.http.body import ClientDisconnected
from asgipipe.http.endpoint import Endpoint, Operation, Socket
from asgipipe.http.endpoints.reading import behind_probe
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.base import Handler
from asgipipe.runners.starlette.refusal import Refusal
from asgipipe.runners.starlette.routes import prefix_for
from asgipipe.runners.starlette.runner import ExceptionHandler, StarletteAppRunner
from asgipipe.settings import EndpointSpec
from asgipipe_fastapi.dependencies import Watched
from asgipipe_fastapi.handler import HandlerEndpoint, HandlerRoute
from asgipipe_fastapi.operations import described
from asgipipe_fastapi.refusals import refusal
from asgipipe_fastapi.routes import (
    HeadAsGet,
    OwnRoute,
    OwnSocketRoute,
    Row,
    add_own_route,
    add_own_socket,
    alone,
    as_routed,
    row_options,
)

_OURS = {
    "docs_url": "docs_url_path",
    "openapi_url": "openapi_url_path",
    "redoc_url": "redoc_url_path",
    "root_path": "root_url_path",
}
"""Arguments of FastAPI's, and the settings that stand for them."""


_HANDLERS = "starlette.exception_handlers"
"""The member of the scope from which a route takes the handlers of what its endpoint raises."""


class FastAPIAppRunner(StarletteAppRunner):
    """Serves a deployment with FastAPI; `asgi_app` is a `fastapi.FastAPI`.

    Routes that only FastAPI understands, native ones and handlers with its types, stand in the deployment's OpenAPI
    document when their `extra_kwargs` say `include_in_schema: true`.
    """

    flavor = "fastapi"
    framework_types = (
        HTTPConnection,
        Response,
        BackgroundTasks,
        Body,
        Depends,
        Param,
        SecurityScopes,
        UploadFile,
    )
    own_routes = (OwnRoute, OwnSocketRoute)
    asgi_app: FastAPI
    _watched: tuple[Watched, ...] = ()

    def new_app(self, options: Mapping[str, Any]) -> FastAPI:
        for name, setting in _OURS.items():
            if options.get(name):
                raise DefinitionError(f"{name!r} is the deployment's: use the setting {setting!r}")
        app = FastAPI(**{**options, "docs_url": None, "openapi_url": None, "redoc_url": None})
        self._watched = (Watched(app.router, app.router.routes),)
        return app

    def create_app(self, fallback: ASGIApp) -> FastAPI:
        app = cast(FastAPI, super().create_app(fallback))
        app.user_middleware.append(Middleware(cast(Any, HeadAsGet), fastapi=app))
        return app

    def add_endpoint(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        handler = behind_probe(endpoint.app)
        if not isinstance(handler, HandlerEndpoint):
            add_own_route(self.asgi_app, endpoint, Row(endpoint.app), row_options(options))
            return
        route_class = partial(HandlerRoute, timeout=handler.timeout)
        route = add_own_route(self.asgi_app, endpoint, handler.function, dict(options), route_class)
        handler.route, handler.app, route.app = route, route.app, endpoint.app

    def add_socket(self, socket: Socket) -> None:
        add_own_socket(self.asgi_app, socket)

    def direct(self, endpoint: Endpoint) -> ASGIApp | None:
        handler = behind_probe(endpoint.app)
        if not isinstance(handler, HandlerEndpoint):
            return super().direct(endpoint)
        handlers = {kind: one for kind, one in self.exception_handlers().items() if kind is not Exception}
        unrouted = partial(_unrouted, endpoint.app, {"route": handler.route, _HANDLERS: (handlers, {})})
        return self.straight(AsyncExitStackMiddleware(unrouted))

    def framework_endpoint(self, handler: Handler) -> ASGIApp:
        return HandlerEndpoint(handler, self.run_in_thread, self.settings.request_timeout)

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        included = self._as_router(spec, native)
        if included is not None:
            self._include(spec, *included)
        else:
            super().add_native_endpoint(spec, native)

    def operation_of(self, endpoint: Endpoint) -> Operation | None:
        handler, app = behind_probe(endpoint.app), self._sketch()
        options: dict[str, Any] = {"name": endpoint.name, **self.options_of(endpoint)}
        if not isinstance(handler, HandlerEndpoint) or not _is_told(options):
            return None
        app.add_api_route(endpoint.path, handler.function, methods=[endpoint.method], **options)
        return next((row.described() for row in described(app)), None)

    def documented(self, spec: EndpointSpec, native: object) -> Iterator[Endpoint]:
        included = self._as_router(spec, native)
        if included is not None and _is_told(spec.extra_kwargs):
            app = self._sketch()
            app.include_router(included[0], prefix=included[1], **cast(dict[str, Any], spec.extra_kwargs))
            yield from described(app, auth_required=spec.auth_required)

    def _sketch(self) -> FastAPI:
        """Return an application that only draws up a document."""
        dependencies = cast("Sequence[Depends] | None", self.settings.app_kwargs.get("dependencies"))
        return FastAPI(dependencies=dependencies)

    def _as_router(self, spec: EndpointSpec, native: object) -> tuple[APIRouter, str] | None:
        """Return what is included for a native endpoint, and at which prefix; None for what FastAPI cannot include."""
        root = self.settings.root_url_path
        if isinstance(native, APIRouter):
            return native, f"{root}{spec.path.rstrip('/')}"
        if isinstance(native, APIRoute | APIWebSocketRoute):
            # Included, it gets the dependencies of `app_kwargs`.
            return alone(native), prefix_for(spec, native, root)
        return None

    def key_needed(self, scope: Scope) -> bool | None:
        return super().key_needed(as_routed(self.asgi_app, scope))

    def last_key_needed(self, scope: Scope) -> bool | None:
        # `frontend` routes are in no list of routes; FastAPI asks them when no other one matches.
        match, _, _, context = self.asgi_app.router._match_low_priority(scope)
        if match is Match.NONE:
            return None
        opened = (each for route in self._open for each in getattr(route, "effective_low_priority_routes", list)())
        return all(context is not each for each in opened)

    def methods_of(self, route: BaseRoute, scope: Scope) -> set[str]:
        methods: set[str] = set()
        for each in iter_route_contexts([route]):
            if each.methods and each.matches(scope)[0] is not Match.NONE:
                methods |= each.methods
        return methods | {"HEAD"} if "GET" in methods else methods

    def entry_point(self) -> ASGIApp:
        for watched in self._watched:
            watched.put_in_force()
        return super().entry_point()

    def exception_handlers(self) -> dict[Any, ExceptionHandler]:
        refused = dict.fromkeys((RequestValidationError, WebSocketRequestValidationError), _on_refused)
        return {**super().exception_handlers(), **refused}

    async def on_exception(self, connection: HTTPConnection, error: Exception) -> ASGIApp | None:
        # FastAPI raises an exception of its own for whatever was raised while it read the body.
        cause = error.__cause__
        if isinstance(cause, ClientDisconnect | ClientDisconnected):
            return None
        return Refusal(cause) if isinstance(cause, HTTPError) else await super().on_exception(connection, error)

    def _include(self, spec: EndpointSpec, router: APIRouter, prefix: str) -> None:
        routes = self.asgi_app.router.routes
        before = len(routes)
        self.asgi_app.include_router(router, prefix=prefix, **cast(dict[str, Any], spec.extra_kwargs))
        added = routes[before:]
        self._watched += (Watched(router, added),)
        if not spec.auth_required:
            self._open += tuple(added)


async def _unrouted(app: ASGIApp, members: Mapping[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application of a route with what the way to it would have put into the scope."""
    scope.update(members)
    await app(scope, receive, send)


def _is_told(options: Mapping[str, object]) -> bool:
    """True when FastAPI is told to document a route: by default the document is the same on every framework."""
    return options.get("include_in_schema") is True and "methods" not in options


async def _on_refused(connection: HTTPConnection, error: Exception) -> object:
    return Refusal(refusal(error) if isinstance(error, ValidationException) else InternalError())
