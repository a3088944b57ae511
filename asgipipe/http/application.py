"""The whole ASGI application of a deployment: lifespan, and the layers around the dispatcher in their order."""

import logging
from collections.abc import Callable, Sequence

from asgipipe.errors import UnavailableError, UserError
from asgipipe.http.lifecycle import Lifecycle, State
from asgipipe.http.middleware.admission import Admission, AdmissionMiddleware
from asgipipe.http.middleware.auth import AuthMiddleware, IsOpen
from asgipipe.http.middleware.cors import cors_middleware
from asgipipe.http.middleware.errors import ErrorBoundaryMiddleware
from asgipipe.http.middleware.limits import LimitsMiddleware
from asgipipe.http.middleware.secure_headers import SecureHeadersMiddleware
from asgipipe.http.middleware.telemetry import TelemetryMiddleware
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.execution import message_of, traceback_of
from asgipipe.service.metrics import Metrics
from asgipipe.settings import DeploymentDefaultMiddleware, DeploymentSettings

logger = logging.getLogger("asgipipe")


def layered(
    inner: ASGIApp,
    settings: DeploymentSettings,
    *,
    keys: Sequence[str],
    is_open: IsOpen,
    exempt: frozenset[str],
    lifecycle: Lifecycle,
    metrics: Metrics,
    custom: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> ASGIApp:
    """Put the layers around `inner`, from the inside out.

    `keys` open what `is_open` does not; `exempt` paths are never throttled; `custom` adds the user's own middleware.

    The error boundary stands inside CORS, so that a 500 has CORS headers too, and admission inside auth, so that nobody
    without a key takes a place in the queue.
    """
    included = settings.include_default_middleware
    admission = Admission(settings.max_concurrency, settings.max_queue)
    app: ASGIApp = custom(inner)
    app = StartingMiddleware(app, lifecycle, exempt)
    app = AdmissionMiddleware(app, admission=admission, lifecycle=lifecycle, exempt=exempt)
    if keys:
        app = AuthMiddleware(app, keys=keys, is_open=is_open)
    app = LimitsMiddleware(
        app,
        max_header_count=settings.max_header_count,
        max_header_size=settings.max_header_size,
        max_body_size=settings.max_request_body_size,
    )
    app = ErrorBoundaryMiddleware(app)
    if DeploymentDefaultMiddleware.CORS in included and settings.cors.allow_origins:
        app = cors_middleware(app, settings.cors)
    if DeploymentDefaultMiddleware.SECURE_HEADERS in included:
        app = SecureHeadersMiddleware(app, settings.secure_headers)
    return TelemetryMiddleware(app, lifecycle, metrics)


class StartingMiddleware:
    """Starts the deployment on the first request where the host sends no lifespan events; probes do not wait for it."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, exempt: frozenset[str]) -> None:
        self.app = app
        self._lifecycle = lifecycle
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._lifecycle.started and scope["asgipipe"].path not in self._exempt:
            await self._start()
        await self.app(scope, receive, send)

    async def _start(self) -> None:
        if self._lifecycle.state in (State.STOPPING, State.STOPPED):
            raise UnavailableError("The server is stopping.")
        try:
            await self._lifecycle.ensure_started()
        except UserError as error:
            logger.error("the deployment did not start: %s", error)
            raise UnavailableError("The deployment failed to start; its log says why.", retry_after=5) from None


class Application:
    """Answers the lifespan protocol and hands everything else to the layers."""

    def __init__(self, layers: ASGIApp, lifecycle: Lifecycle) -> None:
        self._layers = layers
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._layers(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            state = await self.lifecycle.start()
        except UserError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except Exception as error:  # boundary: the framework's own lifespan may raise anything
            logger.error("the application's start failed\n%s", traceback_of(error))
            await send({"type": "lifespan.startup.failed", "message": message_of(error)})
            return
        if isinstance(state, dict) and "state" in scope:
            scope["state"].update(state)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.lifecycle.stop()
        await send({"type": "lifespan.shutdown.complete"})
