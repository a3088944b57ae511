"""Refusals in the place of Starlette's responses."""

from asgipipe.errors import HTTPError
from asgipipe.http.exchange import exchange_of
from asgipipe.http.problems import refuse
from asgipipe.http.types import Receive, Scope, Send


class Refusal:
    """Answers with the problem document of `error`; a WebSocket that was accepted is closed."""

    def __init__(self, error: HTTPError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not exchange_of(scope).started:
            await refuse(scope, send, self._error)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011 if self._error.status >= 500 else 1008})
