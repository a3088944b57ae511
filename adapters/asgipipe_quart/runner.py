"""The app runner itself: endpoints, middleware and lifespan put into one Quart application."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

import quart
from quart import Quart
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug import Response as WerkzeugResponse
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import MapAdapter, RequestRedirect

from asgipipe.errors import DefinitionError
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.endpoints.reading import Probe, behind_probe
from asgipipe.http.middleware.errors import ErrorBoundaryMiddleware
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.base import BaseDeploymentAppRunner, Handler
from asgipipe.runners.middleware import Wrap
from asgipipe.settings import EndpointSpec, MiddlewareSpec
from asgipipe_quart.application import DeploymentQuart
from asgipipe_quart.embedding import start_embedded
from asgipipe_quart.handler import HandlerEndpoint
from asgipipe_quart.native import AroundRequests, add_native, require_class
from asgipipe_quart.routing import Rule, row_of, rule_of
from asgipipe_quart.straight import Straight
from asgipipe_quart.views import answered, connected, response_app


class QuartAppRunner(BaseDeploymentAppRunner):
    """Serves a deployment with Quart; `asgi_app` is a `quart.Quart`.

    A native middleware is an ASGI class, which Quart's users put around `app.asgi_app`, or a function for
    `before_request` or `after_request`.
    """

    flavor = "quart"
    framework_types = (BaseRequestWebsocket, quart.Response, WerkzeugResponse)
    asgi_app: DeploymentQuart
    _mounted: tuple[Quart, ...] = ()
    _layers: tuple[AroundRequests | Wrap, ...] = ()

    def create_app(self, fallback: ASGIApp) -> DeploymentQuart:
        # Without a folder of that name somewhere nobody looks for files of the user's.
        options: dict[str, Any] = {"import_name": __name__, "static_folder": None, **self.settings.app_kwargs}
        app = DeploymentQuart(
            fallback=fallback,
            refused_method=self.refused_method,
            run_in_thread=self.run_in_thread,
            body_limit=self.settings.max_request_body_size,
            **options,
        )
        app.url_map.find = self.routes.find
        return app

    def add_endpoint(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        app, rule_options = self.asgi_app, cast(dict[str, Any], dict(options))
        if "methods" in rule_options:
            raise DefinitionError("extra_kwargs: the method is given by the endpoint's own field 'method'")
        rule_options.pop("include_in_schema", None)
        handler = _handler_of(endpoint)
        native = isinstance(handler, HandlerEndpoint)
        if isinstance(handler, HandlerEndpoint):
            handler.require(endpoint.path)
        view = self._handler_view(endpoint, handler) if isinstance(handler, HandlerEndpoint) else _view(endpoint)
        name = app.free_name(str(rule_options.pop("name", endpoint.name)))
        app.add_url_rule(
            rule_of(endpoint.path) or "/",
            name,
            view,
            methods=[endpoint.method],
            row=endpoint,
            tapped=not native,
            **rule_options,
        )
        app.url_map.rules_of_rows[endpoint.method, endpoint.path] = cast(Rule, next(app.url_map.iter_rules(name)))

    def add_socket(self, socket: Socket) -> None:
        app = self.asgi_app

        async def view() -> None:
            await connected(socket.app, cast(Scope, quart.websocket.scope))

        name, function = app.free_name(socket.name), cast(Any, view)  # Quart's types forget that it answers nothing
        app.add_url_rule(rule_of(socket.path), name, function, websocket=True, methods=["GET"], row=socket, tapped=True)

    def framework_endpoint(self, handler: Handler) -> ASGIApp:
        return HandlerEndpoint(handler, self._ask_framework, self.run_in_thread, self.settings.request_timeout)

    def as_app(self, value: object) -> ASGIApp | None:
        return response_app(value) if isinstance(value, quart.Response | WerkzeugResponse) else None

    def direct(self, endpoint: Endpoint) -> ASGIApp | None:
        if not isinstance(_handler_of(endpoint), HandlerEndpoint):
            return super().direct(endpoint)
        return Straight(self.asgi_app, self.settings.max_request_body_size, self.settings.receive_timeout)

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        rules = self.asgi_app.url_map
        before = set(map(id, rules.iter_rules()))
        add_native(self.asgi_app, spec, native, self.settings.root_url_path)
        if isinstance(native, Quart):
            self._mounted += (native,)
        for rule in rules.iter_rules():
            if id(rule) not in before:
                cast(Rule, rule).open = not spec.auth_required

    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        kwargs = {**spec.init_kwargs, **spec.extra_kwargs}
        if not callable(middleware):
            raise DefinitionError(f"{middleware!r} is neither a class nor a function")
        if isinstance(middleware, type):
            require_class(middleware, kwargs)
            self._layers += (partial(middleware, **kwargs),)
        else:
            self._add_function(AroundRequests(middleware, kwargs))

    def add_inner_middleware(self, spec: MiddlewareSpec, wrap: Wrap) -> None:
        self._layers += (wrap,)

    def key_needed(self, scope: Scope) -> bool | None:
        adapter = self._adapter(scope)
        try:
            rule, _ = adapter.match(return_rule=True)
        except MethodNotAllowed:
            return True if any(self._native_methods(adapter)) else None
        except RequestRedirect:  # a rule that says so
            return True
        except HTTPException:
            return None
        return None if row_of(rule) is not None else not getattr(rule, "open", False)

    def allowed(self, scope: Scope) -> set[str]:
        return super().allowed(scope) | set(self._native_methods(self._adapter(scope)))

    def entry_point(self) -> ASGIApp:
        app = self.asgi_app
        # What Quart calls around requests stands inside of everything that wraps the application itself.
        functions = [position for position, layer in enumerate(self._layers) if isinstance(layer, AroundRequests)]
        outermost = functions[-1] if functions else -1
        for position, layer in enumerate(self._layers):
            if isinstance(layer, AroundRequests):
                layer.add_outermost(app)
            elif position < outermost:
                app.wrap_views(layer)
            else:
                app.wrap(layer)
        return cast(ASGIApp, app)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in (self.asgi_app, *{id(each): each for each in self._mounted}.values()):
                await app.startup()
                stack.push_async_callback(app.shutdown)
                await start_embedded(app, stack)
            yield

    def _add_function(self, function: AroundRequests) -> None:
        functions = [isinstance(layer, AroundRequests) for layer in self._layers]
        if any(functions) and not functions[-1]:
            raise DefinitionError(
                "Quart calls the functions before and after requests in a row: no other middleware can have its order"
                " between them"
            )
        self._layers += (function,)

    async def _ask_framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cast(ASGIApp, self.asgi_app)(scope, receive, send)

    def _handler_view(self, endpoint: Endpoint, handler: HandlerEndpoint) -> Any:  # a view of Quart's
        lifecycle, probe = self.lifecycle, isinstance(endpoint.app, Probe)

        async def view(**values: str) -> object:
            if probe and not lifecycle.started:
                await lifecycle.start_on_request()
            return await handler.view(**values)

        return view

    def _adapter(self, scope: Scope) -> MapAdapter:
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        method, root = scope.get("method", "GET"), scope.get("root_path", "")
        request = BaseRequestWebsocket(
            method, scope["scheme"], scope["path"], scope["query_string"], headers, root, "", cast(Any, scope)
        )
        return cast(MapAdapter, self.asgi_app.create_url_adapter(request))

    @staticmethod
    def _native_methods(adapter: MapAdapter) -> Iterator[str]:
        for method in adapter.allowed_methods():
            try:
                rule, _ = adapter.match(method=method, return_rule=True)
            except HTTPException:  # such as the GET of a WebSocket
                continue
            if row_of(rule) is None:
                yield method


def _handler_of(endpoint: Endpoint) -> ASGIApp:
    return behind_probe(endpoint.app)


def _view(endpoint: Endpoint) -> Any:  # a view of Quart's
    app = ErrorBoundaryMiddleware(endpoint.app, ())

    async def view(**values: str) -> object:
        return await answered(app, {**cast(Scope, quart.request.scope), "path_params": values})

    return view
