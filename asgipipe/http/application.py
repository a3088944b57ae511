"""The whole ASGI application of a deployment: lifespan, and the layers around the dispatcher in their order."""

import logging
from collections.abc import Callable, Sequence

from asgipipe.errors import UserError
from asgipipe.http.exchange import NO_DEFAULTS
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.middleware.admission import Admission, AdmissionMiddleware
from asgipipe.http.middleware.auth import Auth, OpenList
from asgipipe.http.middleware.cors import cors_middleware
from asgipipe.http.middleware.errors import Check, ErrorBoundaryMiddleware
from asgipipe.http.middleware.limits import Limits
from asgipipe.http.middleware.secure_headers import secure_headers
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
    open_list: OpenList,
    exempt: frozenset[str],
    lifecycle: Lifecycle,
    metrics: Metrics,
    custom: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> ASGIApp:
    """Put the layers around `inner`: telemetry and secure headers, CORS, error boundary, limits, auth, admission, and the
    user's own (`custom`).

    `keys` open what `open_list` does not; `exempt` paths are never throttled. The error boundary stands inside CORS, so that
    a 500 has CORS headers too, and admission inside auth, so that nobody without a key takes a place in the queue.
    """
    included = settings.include_default_middleware
    checks: list[Check] = [
        Limits(
            max_header_count=settings.max_header_count,
            max_header_size=settings.max_header_size,
            max_body_size=settings.max_request_body_size,
        ).check
    ]
    if keys:
        checks.append(Auth(keys=keys, open_list=open_list).check)
    admission = Admission(settings.max_concurrency, settings.max_queue)
    app: ASGIApp = AdmissionMiddleware(custom(inner), admission=admission, lifecycle=lifecycle, exempt=exempt)
    app = ErrorBoundaryMiddleware(app, checks)
    if DeploymentDefaultMiddleware.CORS in included and settings.cors.allow_origins:
        app = cors_middleware(app, settings.cors)
    secured = DeploymentDefaultMiddleware.SECURE_HEADERS in included
    defaults = secure_headers(settings.secure_headers) if secured else NO_DEFAULTS
    return TelemetryMiddleware(app, lifecycle=lifecycle, metrics=metrics, defaults=defaults)


class Application:
    """Answers the lifespan protocol and hands everything else to the layers."""

    def __init__(self, layers: ASGIApp, lifecycle: Lifecycle) -> None:
        self._layers = layers
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A coroutine function, though it only passes on: servers and test clients tell ASGI 3 applications by that.
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
