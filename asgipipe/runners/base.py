"""The app-runner contract: the core owns the flow, an adapter converts and registers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from asgipipe.errors import DefinitionError, HTTPError, MethodNotAllowedError, SourceError
from asgipipe.http.application import layered
from asgipipe.http.binding import Limits, bind, build_handler, wants_framework
from asgipipe.http.builtin import BuiltIn, reading_paths
from asgipipe.http.dashboard import dashboard
from asgipipe.http.dispatch import Dispatcher, FallbackEndpoint
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import exchange_of
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.routes import Routes
from asgipipe.http.types import ASGIApp, Scope
from asgipipe.pipelines.callables import name_of
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.runners import extension
from asgipipe.runners.middleware import in_order, wrapped
from asgipipe.service.deployment import BaseDeploymentService, DeploymentResponse
from asgipipe.settings import DeploymentDefaultEndpoints, DeploymentSettings, EndpointSpec, MiddlewareSpec
from asgipipe.settings.references import load

T = TypeVar("T")
Handler = Callable[..., object]


class BaseDeploymentAppRunner(ABC):
    """Builds the application of one deployment with one framework.

    An adapter implements the abstract methods below; it is given endpoints as ASGI applications and registers them, so what
    they answer is the same on every framework. `source_root` is the folder that relative paths of the settings start from;
    `options` are the `deployment_app_runner_kwargs`.
    """

    flavor: ClassVar[str]
    framework_types: ClassVar[tuple[type, ...]] = ()
    """Types of parameters and results by which a handler shows that it is written for the framework."""

    def __init__(
        self,
        service: BaseDeploymentService,
        lifecycle: Lifecycle,
        *,
        keys: tuple[str, ...] = (),
        source_root: Path | None = None,
        **options: object,
    ) -> None:
        if options:
            raise DefinitionError(f"app runner {self.flavor!r} takes no option {next(iter(options))!r}")
        self.service = service
        self.settings: DeploymentSettings = service.settings
        self.deployment: DeploymentResponse = service.deployment
        self.executor: ThreadExecutor = service.executor
        self.lifecycle = lifecycle
        self.source_root = source_root or Path.cwd()
        self._keys = keys
        self._built_in = BuiltIn(service, lifecycle, flavor=self.flavor)
        self._custom: list[Endpoint] = []
        self._native: list[tuple[EndpointSpec, object]] = []
        self._framework: list[tuple[EndpointSpec, Handler]] = []
        self.asgi_app: object = None
        self.routes = Routes(())

    # What an adapter implements

    @abstractmethod
    def create_app(self, fallback: ASGIApp) -> object:
        """Return the framework's application, made with `app_kwargs`; `fallback` answers where it has no route."""

    @abstractmethod
    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Register an endpoint of ours with the framework's application."""

    @abstractmethod
    def framework_endpoint(self, spec: EndpointSpec, handler: Handler) -> ASGIApp:
        """Return the application for a handler that takes the framework's own request, response or dependency types."""

    @abstractmethod
    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        """Add a native object of the framework, at or below `spec.path`."""

    @abstractmethod
    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        """Add a native middleware further out than those added before."""

    @abstractmethod
    def entry_point(self) -> ASGIApp:
        """Return the framework's application as an ASGI callable."""

    @abstractmethod
    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, object] | None]:
        """Return the framework's own start and stop, as one context."""

    # What the core does with it

    def build(self) -> ASGIApp:
        """Put everything together and return the deployment's layers, outermost first."""
        settings = self.settings
        for spec in settings.custom_endpoints:
            self._prepare(spec)
        routes = self.routes = self._routes()
        self.asgi_app = self.create_app(FallbackEndpoint(routes))
        for endpoint in routes.endpoints:
            self.add_endpoint(endpoint)
        for spec, native in self._native:
            self.add_native_endpoint(spec, native)
        native_middlewares = [spec for spec in settings.custom_middlewares if spec.native]
        for middleware in reversed(in_order(native_middlewares)):
            self.add_native_middleware(middleware, load(middleware.middleware))
        for app_extension in settings.app_extensions:
            extension.install(load(app_extension.extension), self, app_extension.extension_kwargs)
        through_framework = bool(native_middlewares or settings.app_extensions)
        built_in = [endpoint for endpoint in routes.endpoints if endpoint not in self._custom]
        dispatcher = Dispatcher(
            {} if through_framework else routes.table(endpoint.name for endpoint in built_in),
            self.entry_point(),
            max_body_size=settings.max_request_body_size,
            receive_timeout=settings.receive_timeout,
        )
        return layered(
            dispatcher,
            settings,
            keys=self._keys,
            open_list=routes,
            exempt=reading_paths(built_in) - {endpoint.path for endpoint in self._custom},
            lifecycle=self.lifecycle,
            custom=partial(wrapped, specs=[spec for spec in settings.custom_middlewares if not spec.native]),
        )

    def refused_method(self, scope: Scope) -> HTTPError | None:
        """Return the 405 for a path of ours, with every method that it answers; frameworks name those of one route."""
        allowed = self.routes.allowed(exchange_of(scope).path)
        return MethodNotAllowedError(sorted(allowed)) if allowed else None

    async def run_in_thread(self, function: Callable[[], T]) -> T:
        """Run `function` in the deployment's own threads."""
        return await self.executor.run(function)

    def _routes(self) -> Routes:
        """Built-in and custom endpoints in one table; a custom one replaces the built-in one at its path and method."""
        replaced = {(endpoint.method, endpoint.path) for endpoint in self._custom}
        own = [row for row in self._built_in.endpoints() if (row.method, row.path) not in replaced]
        endpoints = [*own, *self._custom]
        documents = [row for row in self._built_in.documents(endpoints) if (row.method, row.path) not in replaced]
        settings = self.settings
        files = None
        if DeploymentDefaultEndpoints.DASHBOARD in settings.include_default_endpoints:
            written = settings.dashboard_files_path
            reserved = {row.path.removeprefix(settings.root_url_path).split("/")[1] for row in (*own, *documents)}
            folder = None if written is None else self.source_root / written
            files = dashboard(folder, written=written, reserved=reserved)
        return Routes(
            [*endpoints, *documents],
            open_prefixes=[spec.path for spec, _ in self._native if not spec.auth_required],
            dashboard=files,
            dashboard_root=settings.root_url_path,
        )

    def _prepare(self, spec: EndpointSpec) -> None:
        with _naming(f"custom endpoint {spec.method} {spec.path}"):
            loaded = load(spec.handler)
            if spec.native:
                self._native.append((spec, loaded))
                return
            handler = build_handler(loaded, self, spec.init_kwargs)
            self._custom.append(self._endpoint(spec, handler))

    def _endpoint(self, spec: EndpointSpec, handler: Handler) -> Endpoint:
        name = name_of(handler)
        if wants_framework(handler, self.framework_types):
            return Endpoint(spec.path, spec.method.value, self.framework_endpoint(spec, handler), name, spec.auth_required)
        settings = self.settings
        bound = bind(
            handler,
            path=spec.path,
            method=spec.method.value,
            name=name,
            limits=Limits(settings.max_request_body_size, settings.receive_timeout, settings.request_timeout),
            run_in_thread=self.run_in_thread,
            framework_types=self.framework_types,
        )
        return Endpoint(spec.path, spec.method.value, bound.app, name, spec.auth_required, bound.operation)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    try:
        yield
    except (DefinitionError, SourceError) as error:
        raise DefinitionError(f"{place}: {error}") from error


