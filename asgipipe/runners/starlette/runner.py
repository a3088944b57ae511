"""The app runner itself: endpoints, middleware and lifespan put into one Starlette application."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.websockets import WebSocketDisconnect

from asgipipe.errors import HTTPError, InternalError
from asgipipe.http.binding.failure import failed, meant_for_client
from asgipipe.http.body import ClientDisconnected
from asgipipe.http.dispatch import LimitedBody
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.endpoints.reading import behind_probe
from asgipipe.http.exchange import exchange_of
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.base import BaseDeploymentAppRunner, Handler
from asgipipe.runners.middleware import Wrap
from asgipipe.runners.starlette.handler import HandlerEndpoint
from asgipipe.runners.starlette.middleware import Innermost, Outermost, native_middleware
from asgipipe.runners.starlette.refusal import Refusal
from asgipipe.runners.starlette.routes import Below, OwnRoute, OwnSocketRoute, native_route
from asgipipe.settings import EndpointSpec, MiddlewareSpec

ExceptionHandler = Callable[[HTTPConnection, Exception], Awaitable[object]]


class StarletteAppRunner(BaseDeploymentAppRunner):
    """Serves a deployment with Starlette; `asgi_app` is a `starlette.applications.Starlette`."""

    flavor = "starlette"
    framework_types: ClassVar[tuple[type, ...]] = (HTTPConnection, Response)
    own_routes: ClassVar[tuple[type[BaseRoute], ...]] = (OwnRoute, OwnSocketRoute)
    """The classes of the routes that are ours."""
    asgi_app: Starlette
    _last_routes: tuple[BaseRoute, ...] = ()
    _open: tuple[BaseRoute, ...] = ()
    _mounted: tuple[object, ...] = ()
    _state: Mapping[str, object] | None = None

    def create_app(self, fallback: ASGIApp) -> Starlette:
        options: dict[str, Any] = dict(self.settings.app_kwargs)  # any keyword argument of Starlette's
        handlers = {**self.exception_handlers(), **(options.pop("exception_handlers", None) or {})}
        # Routes given here come after ours: before them they would answer at paths that are open for what is ours.
        self._last_routes = tuple(options.pop("routes", None) or ())
        app = self.new_app({"exception_handlers": handlers, **options})
        # No redirects between /x and /x/: their Location is made from the Host header.
        app.router.redirect_slashes = False
        app.router.default = fallback
        app.user_middleware.append(Middleware(Innermost))
        return app

    def new_app(self, options: Mapping[str, Any]) -> Starlette:
        """Return a new application, made with keyword arguments of its own."""
        return Starlette(**options)

    def add_endpoint(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        self.asgi_app.router.routes.append(OwnRoute(endpoint, options))

    def add_socket(self, socket: Socket) -> None:
        self.asgi_app.router.routes.append(OwnSocketRoute(socket))

    def framework_endpoint(self, handler: Handler) -> ASGIApp:
        return HandlerEndpoint(handler, self.run_in_thread, self.settings.request_timeout)

    def direct(self, endpoint: Endpoint) -> ASGIApp | None:
        ours = not isinstance(behind_probe(endpoint.app), HandlerEndpoint)
        return super().direct(endpoint) if ours else self.straight(endpoint.app)

    def straight(self, handler: ASGIApp) -> ASGIApp:
        """Return a handler as the application would call it at an exact path; what it raises is answered."""
        limit, timeout = self.settings.max_request_body_size, self.settings.receive_timeout

        async def straight(scope: Scope, receive: Receive, send: Send) -> None:
            app = self.asgi_app
            scope.update(app=app, router=app.router, endpoint=handler, path_params={})
            body = LimitedBody(receive, send, limit, timeout)
            try:
                await handler(self._with_state(scope), body, body.send)
            except HTTPError as error:
                await Refusal(error)(scope, receive, send)
            except HTTPException as error:
                response = await self.on_exception(HTTPConnection(scope), error)
                if response is not None:
                    await response(scope, receive, send)
            except (ClientDisconnect, ClientDisconnected):
                return
            except Exception:
                await Refusal(InternalError())(scope, receive, send)
                raise  # so that the error boundary logs it

        return straight

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        route = native_route(spec, native, self.settings.root_url_path)
        self.asgi_app.router.routes.append(route)
        self._mounted += (getattr(native, "app", native) if isinstance(native, BaseRoute) else native,)
        if not spec.auth_required:
            self._open += (route,)

    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        kwargs = {**spec.init_kwargs, **spec.extra_kwargs}
        self.asgi_app.user_middleware.insert(0, native_middleware(middleware, kwargs))

    def add_inner_middleware(self, spec: MiddlewareSpec, wrap: Wrap) -> None:
        # Starlette calls it with the application, as it calls a class.
        self.asgi_app.user_middleware.insert(0, Middleware(cast(Any, wrap)))

    def key_needed(self, scope: Scope) -> bool | None:
        found: bool | None = None
        for route in self.asgi_app.router.routes:  # in the order in which Starlette tries them
            match, _ = route.matches(scope)
            ours = isinstance(route, self.own_routes)
            if match is Match.FULL:
                return None if ours else all(route is not each for each in self._open)
            if match is Match.PARTIAL and not ours:
                found = True
        return self.last_key_needed(scope) if found is None else found

    def last_key_needed(self, scope: Scope) -> bool | None:
        """Return the same of what the framework asks when none of its routes matches."""
        return None

    def allowed(self, scope: Scope) -> set[str]:
        methods = super().allowed(scope)
        # The scope may have been changed by a route on the way.
        probe = {**scope, "path": exchange_of(scope).path, "root_path": ""}
        for route in self.asgi_app.router.routes:
            if not isinstance(route, self.own_routes):
                methods |= self.methods_of(route, probe)
        return methods

    def methods_of(self, route: BaseRoute, scope: Scope) -> set[str]:
        """Return the methods that a route of the user's answers at the path of `scope`."""
        if isinstance(route, Route | Below) and route.matches(scope)[0] is not Match.NONE:
            return set(route.methods or ())
        return set()

    def entry_point(self) -> ASGIApp:
        app = self.asgi_app
        app.router.routes.extend(self._last_routes)
        if cast(object, app.user_middleware[0].cls) is not Innermost:
            app.user_middleware.insert(0, Middleware(Outermost))
        # Built now, so that a middleware which cannot be made is told before the first request, and one that is added
        # later, when it would have no effect, is refused by Starlette.
        app.middleware_stack = app.build_middleware_stack()
        return self._enter

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Mapping[str, object]]:
        state: dict[str, object] = {}
        async with AsyncExitStack() as stack:
            for context in self._lifespans():
                state |= await stack.enter_async_context(context) or {}
            self._state = state
            yield state

    def _enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.asgi_app(self._with_state(scope), receive, send)

    def _with_state(self, scope: Scope) -> Scope:
        if self._state:
            # Under a host the server's state is that of the host.
            scope["state"] = {**(scope.get("state") or {}), **self._state}
        return scope

    def _lifespans(self) -> Iterator[AbstractAsyncContextManager[Any]]:
        """Yield the lifespan of the application, and those of native applications, which Starlette would leave out."""
        yield self.asgi_app.router.lifespan_context(self.asgi_app)
        for app in {id(app): app for app in self._mounted}.values():
            if isinstance(app, Starlette):
                yield app.router.lifespan_context(app)
            elif isinstance(app, Router):
                yield app.lifespan_context(self.asgi_app)

    # Exceptions. Their handlers are coroutine functions: others would go through anyio's threads, which are the host's.

    def exception_handlers(self) -> dict[Any, ExceptionHandler]:
        return {
            HTTPError: self._on_refusal,
            HTTPException: self.on_exception,
            Exception: self._on_failure,
            **dict.fromkeys((ClientDisconnect, ClientDisconnected, WebSocketDisconnect), _nobody_is_left),
        }

    async def _on_refusal(self, connection: HTTPConnection, error: Exception) -> object:
        return Refusal(error if isinstance(error, HTTPError) else InternalError())

    async def _on_failure(self, connection: HTTPConnection, error: Exception) -> object:
        return Refusal(InternalError())  # Starlette raises it again, so that the error boundary logs it

    async def on_exception(self, connection: HTTPConnection, error: Exception) -> ASGIApp | None:
        if not isinstance(error, HTTPException):
            return Refusal(InternalError())
        if error.status_code < 400:  # such as a redirect
            return Response(status_code=error.status_code, headers=error.headers)
        refused = self.refused_method(connection.scope) if error.status_code == 405 else None
        return Refusal(refused or meant_for_client(error) or failed(exchange_of(connection.scope).path, error))


async def _nobody_is_left(connection: HTTPConnection, error: Exception) -> None:
    """Do nothing: the client went away, and there is nobody to answer."""
