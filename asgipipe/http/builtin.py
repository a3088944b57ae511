"""The built-in endpoints of a deployment, as rows of its table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial

from asgipipe.http import job_operations, operations, run_operations
from asgipipe.http.docs import docs_endpoints
from asgipipe.http.endpoint import Endpoint, Operation, Socket
from asgipipe.http.endpoints.acceptance import Acceptance
from asgipipe.http.endpoints.invoke import InvokeBody, InvokeEndpoint
from asgipipe.http.endpoints.jobs import CancelEndpoint, JobEndpoint, JobsEndpoint
from asgipipe.http.endpoints.reading import (
    FixedEndpoint,
    HealthEndpoint,
    InfoEndpoint,
    MetricsEndpoint,
    ReadyEndpoint,
)
from asgipipe.http.endpoints.runs import RunEndpoint, RunsEndpoint
from asgipipe.http.endpoints.stream import EventStreams, StreamEndpoint
from asgipipe.http.endpoints.websocket import SocketLimits, WebSocketEndpoint
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.openapi import OpenAPIEndpoint, openapi_document
from asgipipe.http.status import status_document
from asgipipe.http.types import ASGIApp
from asgipipe.service.deployment import BaseDeploymentService
from asgipipe.settings import DeploymentDefaultMiddleware, built_in_paths

_OPEN = frozenset(("health", "ready", "openapi"))
_PROBES = frozenset(("health", "ready"))
_FROM_THE_STORE = frozenset(("jobs", "runs"))
_PATH_FIELDS = (
    *("docs", "redoc", "openapi", "invoke", "health", "ready", "info", "metrics", "status"),
    *("jobs", "stream", "runs"),
)

Describe = Callable[[], Operation]
"""Makes what the OpenAPI document says: a third of the time that building a small deployment would take."""


class BuiltIn:
    """Makes the rows; the documents among them need the custom endpoints too, so they come last."""

    def __init__(self, service: BaseDeploymentService, lifecycle: Lifecycle, *, flavor: str) -> None:
        self._service = service
        self._settings = service.settings
        self._lifecycle = lifecycle
        self._flavor = flavor
        self._streams = EventStreams(service, heartbeat=service.settings.stream_heartbeat)
        self.paths = {field.removesuffix("_url_path"): path for field, path in built_in_paths(service.settings).items()}

    @property
    def probe_paths(self) -> frozenset[str]:
        return frozenset(path for name, path in self.paths.items() if name in _PROBES)

    def endpoints(self) -> list[Endpoint]:
        """Return the rows of everything but the documents."""
        made: dict[str, tuple[str, ASGIApp, Describe]] = {
            "invoke": ("POST", self._invoke(), self._invoke_operation),
            "health": ("GET", HealthEndpoint(self._service), operations.health_operation),
            "ready": ("GET", ReadyEndpoint(self._lifecycle), operations.ready_operation),
            "info": ("GET", self._info(), operations.info_operation),
            "metrics": ("GET", MetricsEndpoint(self._service), operations.metrics_operation),
            "status": (
                "GET",
                FixedEndpoint(status_document(self._settings, self._service.deployment)),
                operations.status_operation,
            ),
        }
        fixed = (self._row(name, *row) for name, row in made.items() if name in self.paths)
        return [*fixed, *self._job_rows(), *self._run_rows()]

    def _job_rows(self) -> Iterator[Endpoint]:
        service, about = self._service, job_operations
        if "jobs" in self.paths:
            one = f"{self.paths['jobs']}/{{job_id}}"
            yield self._row("jobs", "GET", JobsEndpoint(service), lambda: about.jobs_operation(self._schemas))
            yield self._row("job", "GET", JobEndpoint(service), lambda: about.job_operation(self._schemas), at=one)
            yield self._row("cancel_job", "POST", CancelEndpoint(service), about.cancel_operation, at=f"{one}/cancel")
        if "stream" in self.paths:
            stream, at = StreamEndpoint(service, self._streams), f"{self.paths['stream']}/{{job_id}}"
            yield self._row("stream", "GET", stream, lambda: about.stream_operation(self._schemas), at=at)

    def _run_rows(self) -> Iterator[Endpoint]:
        if "runs" in self.paths:
            service, about, one = self._service, run_operations, f"{self.paths['runs']}/{{run_id}}"
            yield self._row("runs", "GET", RunsEndpoint(service), about.runs_operation)
            yield self._row("run", "GET", RunEndpoint(service), about.run_operation, at=one)

    def sockets(self) -> list[Socket]:
        """Return the WebSockets of ours."""
        path = self.paths.get("stream")
        return [] if path is None else [Socket(path, self._socket(), "stream_socket")]

    def documents(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Return the rows of the OpenAPI document and the pages that show it."""
        openapi_path = self.paths.get("openapi")
        if openapi_path is None:
            return []
        row = self._row("openapi", "GET", FixedEndpoint({}), operations.openapi_operation)
        settings = self._settings
        title = settings.app_title or self._service.pipeline.name
        document = partial(
            openapi_document,
            title=title,
            description=settings.app_description or self._service.pipeline.description,
            version=settings.app_version or "0.1.0",
            endpoints=[*endpoints, row],
            has_keys=self._service.deployment.auth_enabled,
        )
        secured = DeploymentDefaultMiddleware.SECURE_HEADERS in settings.include_default_middleware
        pages = docs_endpoints(
            docs_path=self.paths.get("docs"),
            redoc_path=self.paths.get("redoc"),
            openapi_path=openapi_path,
            title=title,
            document=document,
            csp_enabled=secured and settings.secure_headers.csp is True,
        )
        return [replace(row, app=OpenAPIEndpoint(document)), *pages]

    def _row(self, name: str, method: str, app: ASGIApp, operation: Describe, *, at: str | None = None) -> Endpoint:
        """Return the row of an endpoint at its path from the settings, or `at` one; `name` is its operation's id."""
        return Endpoint(at or self.paths[name], method, app, name, name not in _OPEN, operation)

    def _invoke(self) -> InvokeEndpoint:
        settings = self._settings
        acceptance = Acceptance(
            self._service,
            self._streams,
            self._lifecycle,
            jobs_path=self.paths.get("jobs"),
            stream_path=self.paths.get("stream"),
            cancel_on_disconnect=settings.on_disconnect != "continue",
        )
        return InvokeEndpoint(
            self._service,
            acceptance,
            self._body,
            max_body_size=settings.max_request_body_size,
            receive_timeout=settings.receive_timeout,
            cancel_on_disconnect=settings.on_disconnect == "cancel",
        )

    def _socket(self) -> WebSocketEndpoint:
        settings = self._settings
        return WebSocketEndpoint(
            self._service,
            self._streams,
            self._lifecycle,
            self._body,
            SocketLimits(settings.max_message_size, settings.max_subscriptions, settings.send_timeout),
            cancel_on_disconnect=settings.on_disconnect != "continue",
        )

    @cached_property
    def _body(self) -> InvokeBody:
        return InvokeBody(self._service.pipeline.contract, allow_capture=self._settings.allow_capture_override)

    @cached_property
    def _schemas(self) -> operations.PipelineSchemas:
        contract = self._service.pipeline.contract
        return operations.PipelineSchemas(
            contract.input_schema,
            contract.output_schema,
            required=contract.required,
            capture=self._settings.allow_capture_override,
        )

    def _invoke_operation(self) -> Operation:
        pipeline = self._service.pipeline
        summary, _, description = pipeline.description.partition("\n")
        return operations.invoke_operation(
            summary=summary or f"Run {pipeline.name}",
            description=description.strip(),
            schemas=self._schemas,
            required=pipeline.contract.required,
        )

    def _info(self) -> InfoEndpoint:
        deployment, pipeline = self._service.deployment, self._service.pipeline
        graph = pipeline.graph.as_json()
        fixed = {
            "deployment": {
                "id": deployment.id,
                "name": deployment.name,
                "auth_enabled": deployment.auth_enabled,
            },
            "snapshot": {"id": deployment.snapshot_id, "name": deployment.snapshot_name},
            "pipeline": {
                "name": pipeline.name,
                "description": pipeline.description or None,
                "steps": _step_names(graph),
                "graph": graph,
                "parameters": pipeline.contract.input_schema.get("properties", {}),
                "input_schema": pipeline.contract.input_schema,
                "output_schema": pipeline.contract.output_schema,
            },
            "app": {
                "app_runner_flavor": self._flavor,
                **{f"{name}_url_path": self.paths.get(name) for name in _PATH_FIELDS},
            },
        }
        return InfoEndpoint(self._service, self._lifecycle, fixed)


def _step_names(graph: dict[str, object]) -> list[object]:
    nodes = graph["nodes"]
    return [node["step"] for node in nodes] if isinstance(nodes, list) else []


def reading_paths(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """Return the paths that are never throttled: they only read, and cost microseconds; the store costs more."""
    return frozenset(
        endpoint.path for endpoint in endpoints if endpoint.method == "GET" and endpoint.name not in _FROM_THE_STORE
    )
