"""The outermost layer: request ids, the exchange, and what is counted about every request."""

import re
from random import getrandbits

from asgipipe.http.exchange import KEY, DefaultHeaders, Exchange, local_path
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.logs import request_id_var
from asgipipe.service.metrics import Metrics

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch


class TelemetryMiddleware:
    """Makes the exchange; a sane `x-request-id` of the client's is kept, any other is replaced.

    `defaults` are the headers that every answer carries.
    """

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle, metrics: Metrics, defaults: DefaultHeaders) -> None:
        self.app = app
        self._lifecycle = lifecycle
        self._request_finished = metrics.request_finished
        self._defaults = defaults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id")
        if request_id is None or _SANE_ID(request_id) is None:
            request_id = b"%032x" % getrandbits(128)
        exchange = scope[KEY] = Exchange(send, local_path(scope), headers, request_id, self._defaults)
        token = request_id_var.set(request_id.decode("ascii"))
        lifecycle = self._lifecycle
        lifecycle.active += 1
        try:
            await self.app(scope, receive, exchange.send)
        finally:
            request_id_var.reset(token)
            lifecycle.active -= 1
            if lifecycle.draining:
                lifecycle.request_ended()
            self._request_finished(scope.get("method", "WEBSOCKET"), exchange.status)
