"""The endpoints that only read: /health, /ready, /info, /metrics, /status."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import time

from pydantic_core import to_json

from asgipipe.errors import HTTPError, UnavailableError
from asgipipe.http import exposition
from asgipipe.http.exchange import exchange_of
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.jobs.states import JobState
from asgipipe.service.deployment import BaseDeploymentService


class HealthEndpoint:
    """200 while the process lives and the service says that it is well."""

    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        reason = await service.health()
        if reason is not None:
            raise UnavailableError(f"Not healthy: {reason}.")
        body = {
            "status": "healthy",
            "uptime": round(max(0.0, time() - service.started_at), 3),
            "deployment_id": service.deployment.id,
            "pipeline_name": service.deployment.pipeline_name,
        }
        await respond(send, 200, JSON, to_json(body))


class ReadyEndpoint:
    """200 when the deployment takes requests: not while it starts or drains."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._starting: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifecycle = self._lifecycle
        if not lifecycle.ready:
            if lifecycle.stopping:
                raise UnavailableError("The server is stopping.")
            # Under a host that sends no lifespan events a probe may be the first request there is.
            self._starting = asyncio.ensure_future(self._start())
            raise UnavailableError("The deployment is starting.")
        await respond(send, 200, JSON, b'{"status":"ready"}')

    async def _start(self) -> None:
        with suppress(UnavailableError):  # logged there
            await self._lifecycle.start_on_request()


class Probe:
    """A custom endpoint in the place of a probe: never throttled, so it starts the deployment itself."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._lifecycle.started:
            await self._lifecycle.start_on_request()
        await self.app(scope, receive, send)


def behind_probe(app: ASGIApp) -> ASGIApp:
    """Return what a Probe stands in front of; any other application itself."""
    return app.app if isinstance(app, Probe) else app


class InfoEndpoint:
    """What is served here: `fixed` is the part that never changes."""

    def __init__(self, service: BaseDeploymentService, lifecycle: Lifecycle, fixed: Mapping[str, object]) -> None:
        self._service = service
        self._lifecycle = lifecycle
        self._fixed = to_json(fixed)[:-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        counted = service.metrics.snapshot()
        live = {
            "total_executions": counted.total_executions,
            "last_execution_time": counted.last_execution_time,
            "status": "draining" if self._lifecycle.draining else self._lifecycle.state.value,
            "uptime": round(max(0.0, time() - service.started_at), 3),
        }
        await respond(send, 200, JSON, self._fixed + b"," + to_json(live)[1:])


class MetricsEndpoint:
    """The counts of all workers: JSON, or Prometheus and OpenMetrics text by `Accept`."""

    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deployment = self._service.deployment
        form = exposition.negotiate(exchange_of(scope).headers.get(b"accept"))
        counted = [(deployment.name, deployment.pipeline_name, self._service.metrics.snapshot())]
        jobs = {} if form == "json" else {deployment.name: await self._jobs()}
        content_type, body = exposition.render(counted, form, jobs=jobs)
        await respond(send, 200, (b"content-type", content_type), body, ((b"vary", b"Accept"),))

    async def _jobs(self) -> Mapping[JobState, int]:
        try:
            return await self._service.jobs.counts()
        except HTTPError:  # a store that cannot be reached: the other metrics are needed all the more
            return {}


class FixedEndpoint:
    """A JSON document that never changes: /status."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._body = to_json(document)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, JSON, self._body)
