"""The app runner itself: endpoints and middleware put into one Django handler."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, URLResolver

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.stream import while_connected
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.base import BaseDeploymentAppRunner, Handler
from asgipipe.runners.middleware import Wrap
from asgipipe.settings import EndpointSpec, MiddlewareSpec
from asgipipe_django import connections
from asgipipe_django.application import DjangoApplication, Threads, view_of, without_transaction
from asgipipe_django.handler import HandlerView
from asgipipe_django.inner import inner_middleware
from asgipipe_django.middleware import native_middleware
from asgipipe_django.native import native_pattern
from asgipipe_django.patterns import Row, SocketRow, names_in, url_name
from asgipipe_django.project import set_up


class DjangoAppRunner(BaseDeploymentAppRunner):
    """Serves a deployment with Django; `asgi_app` is a DjangoApplication.

    In a Django project it uses the project's settings, apps and databases, but neither its URLs nor its middleware;
    else it configures Django with the least it needs, and `app_kwargs` are Django settings over those.
    """

    flavor = "django"
    framework_types = (HttpRequest, HttpResponseBase)
    asgi_app: DjangoApplication

    def __init__(self, *args: Any, **options: Any) -> None:  # those of the base class
        super().__init__(*args, **options)
        set_up(self.settings.app_kwargs)
        connections.look_after(self.executor)
        self._threads = Threads(self.executor)
        self._open: tuple[URLPattern | URLResolver, ...] = ()

    def build(self) -> ASGIApp:
        app = super().build()
        return connections.RequestThread(app) if connections.any_databases() else app

    def create_app(self, fallback: ASGIApp) -> DjangoApplication:
        return DjangoApplication(fallback, self.routes.allowed, self._threads)

    def add_endpoint(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        unknown = options.keys() - {"name", "include_in_schema"}
        if unknown:
            raise DefinitionError(f"extra_kwargs: a Django pattern of ours takes 'name', not {min(unknown)!r}")
        name, app = url_name(str(options.get("name", endpoint.name))), endpoint.app
        if isinstance(app, HandlerView):
            app.check(names_in(endpoint.path))
            row = Row(endpoint, name, without_transaction(app.as_view()), None)
        else:
            row = Row(endpoint, name, view_of(app), app)
        self.asgi_app.urlpatterns.append(row)

    def add_socket(self, socket: Socket) -> None:
        self.asgi_app.urlpatterns.append(SocketRow(socket, view_of(socket.app)))

    def framework_endpoint(self, handler: Handler) -> ASGIApp:
        # Handlers are read before there is an application.
        return HandlerView(
            handler,
            self._threads.wrap,
            self._send_response,
            self.settings.request_timeout,
        )

    def as_app(self, value: object) -> ASGIApp | None:
        if not isinstance(value, HttpResponseBase):
            return None

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            sending = self._send_response(value, send)
            await (while_connected(sending, receive) if value.streaming else sending)

        return app

    async def _send_response(self, response: HttpResponseBase, send: Send) -> None:
        await self.asgi_app.send_whole(response, send)

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        pattern = native_pattern(spec, native, self.settings.root_url_path)
        self.asgi_app.urlpatterns.append(pattern)
        if not spec.auth_required:
            self._open += (pattern,)

    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        kwargs = {**spec.init_kwargs, **spec.extra_kwargs}
        self.asgi_app.middleware.insert(0, native_middleware(middleware, kwargs))

    def key_needed(self, scope: Scope) -> bool | None:
        found = self.asgi_app.find(scope)
        if found is None or isinstance(found[0], Row | SocketRow):
            return None
        return all(found[0] is not each for each in self._open)

    def add_inner_middleware(self, spec: MiddlewareSpec, wrap: Wrap) -> None:
        self.asgi_app.middleware.insert(0, inner_middleware(wrap, self.asgi_app))

    def entry_point(self) -> ASGIApp:
        app, settings = self.asgi_app, self.settings
        # Built now, so that a middleware which cannot be made is told before the first request.
        app.load_middleware()
        changed = app.middleware or settings.app_extensions or settings.app_kwargs
        return app if changed else app.straight

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()  # Django has none
