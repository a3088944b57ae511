"""The Starlette app runner."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from asgipipe.errors import DefinitionError, HTTPError, InternalError
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.problems import refuse
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.http.binding.failure import failed, meant_for_client
from asgipipe.pipelines.callables import kind_of
from asgipipe.runners.base import BaseDeploymentAppRunner, Handler
from asgipipe.settings import EndpointSpec, MiddlewareSpec


class StarletteAppRunner(BaseDeploymentAppRunner):
    """Serves a deployment with Starlette; `asgi_app` is a `starlette.applications.Starlette`."""

    flavor = "starlette"
    framework_types = (HTTPConnection, Response)
    asgi_app: Starlette

    def create_app(self, fallback: ASGIApp) -> Starlette:
        options: dict[str, Any] = dict(self.settings.app_kwargs)  # any keyword argument of Starlette's
        handlers = {HTTPError: self._on_refusal, HTTPException: self._on_exception}
        handlers |= options.pop("exception_handlers", {})
        app = Starlette(exception_handlers=handlers, **options)
        # No redirects between /x and /x/: their Location is made from the Host header.
        app.router.redirect_slashes = False
        app.router.default = fallback
        return app

    def add_endpoint(self, endpoint: Endpoint) -> None:
        self.asgi_app.router.routes.append(_route(endpoint.path, endpoint.app, [endpoint.method], endpoint.name))

    def framework_endpoint(self, spec: EndpointSpec, handler: Handler) -> ASGIApp:
        if kind_of(handler).streams:
            raise DefinitionError("a generator cannot take the framework's request; return a StreamingResponse")
        if kind_of(handler).is_async:
            endpoint = handler
        else:
            endpoint = self._in_thread(handler)
        return cast(ASGIApp, Route(spec.path, endpoint, methods=[spec.method.value], **_options(spec)).app)

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        self.asgi_app.router.routes.append(_native_route(spec, native))

    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        kwargs: dict[str, Any] = {**spec.init_kwargs, **spec.extra_kwargs}
        if isinstance(middleware, Middleware):
            self.asgi_app.user_middleware.insert(0, middleware)
        elif isinstance(middleware, type):
            self.asgi_app.add_middleware(cast(Any, middleware), **kwargs)  # any class that Starlette takes
        elif callable(middleware):
            self.asgi_app.add_middleware(BaseHTTPMiddleware, dispatch=partial(middleware, **kwargs))
        else:
            raise DefinitionError(f"native middleware {middleware!r} is neither a class nor a function of Starlette's kind")

    def entry_point(self) -> ASGIApp:
        return self.asgi_app

    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, object] | None]:
        return self.asgi_app.router.lifespan_context(self.asgi_app)

    def _on_refusal(self, request: Request, error: Exception) -> Any:
        return _Refusal(error if isinstance(error, HTTPError) else InternalError())

    def _on_exception(self, request: Request, error: Exception) -> Any:
        if not isinstance(error, HTTPException):
            return _Refusal(InternalError())
        refused = self.refused_method(request.scope) if error.status_code == 405 else None
        return _Refusal(refused or meant_for_client(error) or failed(request.url.path, error))

    def _in_thread(self, handler: Handler) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> object:
            return await self.run_in_thread(partial(handler, request))

        return endpoint


def _route(path: str, app: ASGIApp, methods: list[str], name: str) -> Route:
    # Anything but a function or a method is taken as an ASGI application.
    return Route(path, partial(app), methods=methods, name=name, include_in_schema=False)


def _options(spec: EndpointSpec) -> dict[str, Any]:
    return dict(spec.extra_kwargs)


def _native_route(spec: EndpointSpec, native: object) -> BaseRoute:
    """A route below `spec.path` is taken as it is, one with a path of its own is put under it; so is any application."""
    if isinstance(native, Route | WebSocketRoute | Mount):
        if native.path == spec.path or native.path.startswith(f"{spec.path}/"):
            return native
        return Mount(spec.path, routes=[native])
    if isinstance(native, BaseRoute):
        return Mount(spec.path, routes=[native])
    if callable(native):
        return Mount(spec.path, app=native)
    raise DefinitionError(f"{native!r} is neither a Starlette route nor an ASGI application")


class _Refusal:
    """A refusal in the place of a Starlette response."""

    def __init__(self, error: HTTPError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(scope, send, self._error)
