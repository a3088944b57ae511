"""The whole ASGI application of a deployment, and the layers around its dispatcher in their order."""

import asyncio
import logging
import re
from binascii import hexlify
from collections.abc import Sequence
from random import getrandbits

from asgipipe.errors import UserError
from asgipipe.http.exchange import KEY, NO_DEFAULTS, REQUEST_ID, Exchange, local_path, with_complete_path
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.middleware.admission import Admission, AdmissionMiddleware
from asgipipe.http.middleware.auth import Auth, OpenList
from asgipipe.http.middleware.cors import CORSMiddleware
from asgipipe.http.middleware.errors import Check, ErrorBoundaryMiddleware
from asgipipe.http.middleware.limits import Limits
from asgipipe.http.middleware.secure_headers import secure_headers
from asgipipe.http.origin import Origins
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.logs import request_id_var
from asgipipe.pipelines.execution import message_of, traceback_of
from asgipipe.service.metrics import Metrics
from asgipipe.settings import DeploymentDefaultMiddleware, DeploymentSettings

logger = logging.getLogger("asgipipe")

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch


def layered(
    inner: ASGIApp,
    settings: DeploymentSettings,
    *,
    keys: Sequence[str],
    open_list: OpenList,
    exempt: frozenset[str],
    lifecycle: Lifecycle,
) -> ASGIApp:
    """Put the layers around `inner`: CORS, error boundary, limits, auth, origins, admission; in it are the user's own.

    `keys` open what `open_list` does not; `exempt` paths are never throttled. The error boundary stands inside CORS, so
    that a 500 has CORS headers too, and admission inside auth, so that nobody without a key takes a place in the queue.
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
    app: ASGIApp = AdmissionMiddleware(inner, admission=admission, lifecycle=lifecycle, exempt=exempt)
    app = ErrorBoundaryMiddleware(app, checks, [Origins(settings.cors.allow_origins).check])
    if DeploymentDefaultMiddleware.CORS in included and settings.cors.allow_origins:
        app = CORSMiddleware(app, settings.cors)
    return app


class Application:
    """The outermost layer: it answers the lifespan protocol, opens an exchange for every request, and counts it.

    A sane `x-request-id` of the client's is kept, any other is replaced.
    """

    def __init__(self, layers: ASGIApp, settings: DeploymentSettings, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self.layers = layers
        self.lifecycle = lifecycle
        self._request_finished = metrics.request_finished
        secured = DeploymentDefaultMiddleware.SECURE_HEADERS in settings.include_default_middleware
        self._defaults = secure_headers(settings.secure_headers) if secured else NO_DEFAULTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(REQUEST_ID)
        if request_id is None or _SANE_ID(request_id) is None:
            request_id = hexlify(getrandbits(128).to_bytes(16))
        path = local_path(scope)
        if scope.get("root_path"):
            scope = with_complete_path(scope, path)
        exchange = scope[KEY] = Exchange(send, path, headers, request_id, self._defaults)
        request_id_var.set(request_id)
        lifecycle = self.lifecycle
        lifecycle.active += 1
        try:
            await self.layers(scope, receive, exchange.send)
        finally:
            # uvicorn's request object holds the scope: without this every request would be a cycle for the collector.
            del scope[KEY]
            lifecycle.active -= 1
            if lifecycle.draining:
                lifecycle.request_ended()
            self._request_finished(scope.get("method", "WEBSOCKET"), exchange.status)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            state = await self.lifecycle.start()
        except UserError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: a lifecycle of somebody else's may raise anything
            logger.error("the application's start failed\n%s", traceback_of(error))
            await send({"type": "lifespan.startup.failed", "message": message_of(error)})
            return
        if isinstance(state, dict) and "state" in scope:
            scope["state"].update(state)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.lifecycle.stop()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: the framework's own lifespan may raise anything
            logger.error("the application's stop failed\n%s", traceback_of(error))
            await send({"type": "lifespan.shutdown.failed", "message": message_of(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})
