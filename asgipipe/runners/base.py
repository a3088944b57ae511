"""The app-runner contract: the core owns the flow, an adapter converts and registers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeVar

from asgipipe.errors import DefinitionError, HTTPError, MethodNotAllowedError
from asgipipe.http.application import layered
from asgipipe.http.builtin import BuiltIn, reading_paths
from asgipipe.http.dashboard import Dashboard, dashboard
from asgipipe.http.dispatch import Dispatcher, FallbackEndpoint, FrameworkDispatcher
from asgipipe.http.endpoint import Endpoint, Operation, Socket
from asgipipe.http.endpoints.reading import Probe
from asgipipe.http.exchange import exchange_of
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.middleware.errors import RefusalMiddleware
from asgipipe.http.routes import Routes, Templates, table
from asgipipe.http.types import ASGIApp, Scope
from asgipipe.pipelines.callables import name_of
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.runners import extension
from asgipipe.runners.building import building
from asgipipe.runners.middleware import Wrap, in_order, place_of, wrap_of, wrapped
from asgipipe.service.deployment import BaseDeploymentService, DeploymentResponse
from asgipipe.settings import DeploymentDefaultEndpoints, DeploymentSettings, EndpointSpec, MiddlewareSpec
from asgipipe.settings.paths import shape
from asgipipe.settings.references import load
from asgipipe.settings.references import name as reference_name

T = TypeVar("T")
Handler = Callable[..., object]


class BaseDeploymentAppRunner(ABC):
    """Builds the application of one deployment with one framework.

    An adapter implements the abstract methods below; it is given endpoints as ASGI applications and registers them, so
    what they answer is the same on every framework. Members that begin with an underscore are the core's own, and
    adapters keep clear of their names. `source_root` is the folder that relative paths of the settings start from;
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
        self._options: dict[tuple[str, str], Mapping[str, object]] = {}
        self.asgi_app: object = None
        self.routes = Routes(())

    # What an adapter implements

    @abstractmethod
    def create_app(self, fallback: ASGIApp) -> object:
        """Return the framework's application, made with `app_kwargs`; `fallback` answers where it has no route."""

    @abstractmethod
    def add_endpoint(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        """Register an endpoint of ours with the framework's application; `options` are its `extra_kwargs`."""

    @abstractmethod
    def add_socket(self, socket: Socket) -> None:
        """Register a WebSocket of ours with the framework's application, before anything native."""

    @abstractmethod
    def framework_endpoint(self, handler: Handler) -> ASGIApp:
        """Return the application for a handler that takes the framework's own request, response or dependency types."""

    def as_app(self, value: object) -> ASGIApp | None:
        """Return what sends a response of the framework's that is no ASGI application itself; None for other values.

        A handler may return one without having declared it.
        """
        return None

    @abstractmethod
    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        """Add a native object of the framework, at or below `self.complete(spec.path)`.

        Any ASGI application is one, on every framework, for HTTP and WebSockets. Raises DefinitionError for what cannot
        be added.
        """

    @abstractmethod
    def key_needed(self, scope: Scope) -> bool | None:
        """Return whether the framework's own route that would answer needs the key; None when there is no such route.

        None too where a route of ours comes before it. What nobody declared open needs the key: also what an extension
        adds, be it at a path that is open.
        """

    @abstractmethod
    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        """Add a native middleware further out than those added before."""

    def add_inner_middleware(self, spec: MiddlewareSpec, wrap: Wrap) -> None:
        """Add an ASGI middleware that stands inside a native one, further out than those added before."""
        raise DefinitionError(
            f"app runner {self.flavor!r} cannot put it inside of native middleware; give it a lower order than theirs"
        )

    def direct(self, endpoint: Endpoint) -> ASGIApp | None:
        """Return what answers without the framework where nothing in that can change the answer; None to ask it."""
        return None if endpoint.needs_framework else endpoint.app

    def operation_of(self, endpoint: Endpoint) -> Operation | None:
        """Return what the framework, for the OpenAPI document, says of a handler with its types; None for nothing."""
        return None

    def documented(self, spec: EndpointSpec, native: object) -> Iterable[Endpoint]:
        """Return what the framework says of a native object, as rows for the OpenAPI document alone."""
        return ()

    @abstractmethod
    def entry_point(self) -> ASGIApp:
        """Return the framework's application, complete, as an ASGI callable."""

    @abstractmethod
    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, object] | None]:
        """Return the framework's own start and stop, as one context."""

    # What the core does with it

    def build(self) -> ASGIApp:
        """Put everything together and return the deployment's layers, outermost first."""
        for spec in self.settings.custom_endpoints:
            with building(_place_of(spec)):
                self._prepare(spec)
        built_in = self._built_in_endpoints()
        self.routes = self._routes(built_in)
        with building("app_kwargs"):
            self.asgi_app = self.create_app(FallbackEndpoint(self.routes))
        self._register()
        outer = self._add_middleware()
        for each in self.settings.app_extensions:
            with building(f"extension {reference_name(each.extension)}"):
                extension.install(load(each.extension), self, each.extension_kwargs)
        with building("the application"):
            inner = self._dispatcher(built_in)
        return layered(
            wrapped(RefusalMiddleware(inner), outer) if outer else inner,
            self.settings,
            keys=self._keys,
            open_list=self.routes,
            exempt=self._exempt(built_in),
            lifecycle=self.lifecycle,
        )

    def complete(self, path: str) -> str:
        """Return the path of a custom endpoint below the deployment's mount point, behind `root_url_path`."""
        return f"{self.settings.root_url_path}{path}" or "/"

    def options_of(self, endpoint: Endpoint) -> Mapping[str, object]:
        """Return the `extra_kwargs` of the endpoint's spec; those of a built-in one are empty."""
        return self._options.get((endpoint.method, endpoint.path), {})

    def refused_method(self, scope: Scope) -> HTTPError | None:
        """Return the 405 for a path of ours, with every method that it answers; frameworks name those of one route.

        None when the method is among them: then a handler refused it.
        """
        allowed = self.allowed(scope)
        return MethodNotAllowedError(sorted(allowed)) if allowed and scope["method"] not in allowed else None

    def allowed(self, scope: Scope) -> set[str]:
        """Return the methods that are served at the request's path; adapters add those of native routes."""
        return self.routes.allowed(exchange_of(scope).path)

    async def run_in_thread(self, function: Callable[[], T]) -> T:
        """Run `function` in the deployment's own threads."""
        return await self.executor.run(function)

    # Endpoints

    def _prepare(self, spec: EndpointSpec) -> None:
        # Most deployments have no endpoints of their own, and start sooner without the modules that make them.
        from asgipipe.http.binding.builder import build_handler

        loaded = load(spec.handler)
        if spec.native:
            if spec.init_kwargs:
                raise DefinitionError("init_kwargs are for builders; a native object is added as it is")
            self._native.append((spec, loaded))
            return
        if isinstance(spec.handler, str) and not callable(loaded):
            raise DefinitionError(f"{spec.handler!r} is of type {type(loaded).__name__}, which is not callable")
        endpoint = self._endpoint(spec, build_handler(loaded, self, spec.init_kwargs))
        self._custom.append(endpoint)

    def _endpoint(self, spec: EndpointSpec, handler: Handler) -> Endpoint:
        from asgipipe.http.binding.bound import Limits, bind
        from asgipipe.http.binding.handler import wants_framework
        from asgipipe.http.binding.result import returns_framework

        name, path, method = name_of(handler), self.complete(spec.path), spec.method.value
        self._options[method, path] = spec.extra_kwargs
        if wants_framework(handler, self.framework_types) or returns_framework(handler, self.framework_types):
            app = self._probed(path, method, self.framework_endpoint(handler))
            endpoint = Endpoint(path, method, app, name, spec.auth_required, needs_framework=True)
            return replace(endpoint, operation=self.operation_of(endpoint))
        settings = self.settings
        bound = bind(
            handler,
            path=path,
            method=method,
            name=name,
            limits=Limits(settings.max_request_body_size, settings.receive_timeout, settings.request_timeout),
            run_in_thread=self.run_in_thread,
            framework_types=self.framework_types,
            as_app=self.as_app,
        )
        documented = spec.extra_kwargs.get("include_in_schema", True)
        operation = bound.operation if documented else None
        return Endpoint(path, method, self._probed(path, method, bound.app), name, spec.auth_required, operation)

    def _probed(self, path: str, method: str, app: ASGIApp) -> ASGIApp:
        """In the place of a probe, an endpoint answers like one: however much there is to do."""
        return Probe(app, self.lifecycle) if method == "GET" and path in self._built_in.probe_paths else app

    def _built_in_endpoints(self) -> list[Endpoint]:
        """Return the built-in endpoints; a custom one with the same path and method replaces one of them."""
        replaced = {(endpoint.method, shape(endpoint.path)) for endpoint in self._custom}
        own = [row for row in self._built_in.endpoints() if (row.method, shape(row.path)) not in replaced]
        documents = self._built_in.documents([*own, *self._custom, *self._native_rows()])
        return [*own, *(row for row in documents if (row.method, row.path) not in replaced)]

    def _native_rows(self) -> Iterator[Endpoint]:
        for spec, native in self._native:
            with building(_place_of(spec)):
                yield from self.documented(spec, native)

    def _routes(self, built_in: Iterable[Endpoint]) -> Routes:
        # Frameworks try one after the other, and the built-in ones rarely come to them: their place is the end.
        endpoints = [*self._custom, *built_in]
        sockets = self._built_in.sockets()
        return Routes(
            endpoints,
            sockets=sockets,
            key_needed=self.key_needed,
            dashboard=self._dashboard([*(row.path for row in endpoints), *(socket.path for socket in sockets)]),
            dashboard_root=self.settings.root_url_path,
        )

    def _dashboard(self, paths: Iterable[str]) -> Dashboard | None:
        settings = self.settings
        if DeploymentDefaultEndpoints.DASHBOARD not in settings.include_default_endpoints:
            return None
        written, root = settings.dashboard_files_path, settings.root_url_path
        served = [*paths, *(self.complete(spec.path) for spec, _ in self._native)]
        reserved = {f"{path.removeprefix(root)}/".split("/")[1] for path in served}
        folder = None if written is None else self.source_root / written
        return dashboard(folder, written=written, reserved=reserved - {""}, root=root, paths=self._built_in.paths)

    def _register(self) -> None:
        for endpoint in self.routes.endpoints:
            with building(f"endpoint {endpoint.method} {endpoint.path}"):
                self.add_endpoint(endpoint, self.options_of(endpoint))
        for socket in self.routes.sockets.values():
            self.add_socket(socket)
        # A native object may take all that is below its path, so those with longer paths come first.
        for spec, native in sorted(self._native, key=lambda one: -one[0].path.rstrip("/").count("/")):
            place = f"{_place_of(spec)} ({spec.handler})" if isinstance(spec.handler, str) else _place_of(spec)
            with building(place):
                self.add_native_endpoint(spec, native)

    # Middleware and the way of a request

    def _add_middleware(self) -> list[MiddlewareSpec]:
        """Give the framework its native middleware, and what stands inside of that; return what stands further out."""
        specs = in_order(self.settings.custom_middlewares)
        outer = next((position for position, spec in enumerate(specs) if spec.native), len(specs))
        for spec in reversed(specs[outer:]):
            with building(place_of(spec)):
                if spec.native:
                    self.add_native_middleware(spec, load(spec.middleware))
                else:
                    self.add_inner_middleware(spec, wrap_of(spec))
        return specs[:outer]

    def _dispatcher(self, built_in: Iterable[Endpoint]) -> ASGIApp:
        """Return the end of the chain; without the short way where something in the framework may change answers."""
        settings, framework = self.settings, self.entry_point()
        limit, timeout = settings.max_request_body_size, settings.receive_timeout
        native = any(spec.native for spec in settings.custom_middlewares)
        if native or settings.app_extensions or settings.app_kwargs:
            return FrameworkDispatcher(framework, max_body_size=limit, receive_timeout=timeout)
        rows = filter(self._is_plain, (*built_in, *self._custom))
        direct = {(row.method, row.path): app for row in rows if (app := self.direct(row)) is not None}
        sockets = {socket.path: socket.app for socket in self.routes.sockets.values()}
        return Dispatcher(
            table(direct),
            framework,
            templates=Templates(self.routes, {(row.method, row.path): row.app for row in built_in if "{" in row.path}),
            sockets=sockets,
            max_body_size=limit,
            receive_timeout=timeout,
        )

    def _is_plain(self, row: Endpoint) -> bool:
        """True when the path is all there is to a route: what more the framework was told holds only if it is asked."""
        return "{" not in row.path and self.options_of(row).keys() <= {"include_in_schema", "name"}

    def _exempt(self, built_in: Iterable[Endpoint]) -> frozenset[str]:
        """Return the paths whose GET is never throttled; of the custom endpoints, those in the place of a probe."""
        return reading_paths(built_in) | (reading_paths(self._custom) & self._built_in.probe_paths)


def _place_of(spec: EndpointSpec) -> str:
    return f"custom endpoint {spec.path}" if spec.native else f"custom endpoint {spec.method} {spec.path}"
