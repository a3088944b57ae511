"""The error boundary: whatever happens further in, the client gets a problem document and the server lives."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from asgipipe.errors import HTTPError, InternalError, UnauthorizedError
from asgipipe.http.body import ClientDisconnected
from asgipipe.http.exchange import KEY, Exchange, exchange_of, local_path
from asgipipe.http.problems import refuse
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.execution import traceback_of

logger = logging.getLogger("asgipipe")

Check = Callable[[Scope, Exchange], None]


class ErrorBoundaryMiddleware:
    """Answers a refusal with its problem, anything else with a 500 that says nothing about the inside.

    SystemExit and KeyboardInterrupt raised by user code end here too: further out they would stop the server. `checks`
    are the layers that only look at a request and refuse it by raising HTTPError, those in `handshake_checks` at that
    of a WebSocket only; as plain functions in a row they cost a fraction of nested applications.
    """

    def __init__(self, app: ASGIApp, checks: Sequence[Check], handshake_checks: Sequence[Check] = ()) -> None:
        self.app = app
        self._checks = {"http": tuple(checks), "websocket": (*checks, *handshake_checks)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            exchange: Exchange = scope[KEY]
            for check in self._checks[scope["type"]]:
                check(scope, exchange)
            await self.app(scope, receive, send)
        except HTTPError as error:
            await self._answer(scope, send, error, error)
        except ClientDisconnected:
            return
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the server cancels this request; one that user code made up is a failure like others
            await self._answer(scope, send, InternalError(), error)
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            await self._answer(scope, send, InternalError(), error)

    @staticmethod
    async def _answer(scope: Scope, send: Send, answer: HTTPError, error: BaseException) -> None:
        exchange = exchange_of(scope)
        if isinstance(answer, InternalError):
            request_id = exchange.request_id.decode("ascii")
            logger.error(
                "request %s %s failed\n%s",
                request_id,
                exchange.path[:200],
                traceback_of(error),
                extra={"request_id": request_id},
            )
        # A response that has begun cannot be mended; returning without its end makes the server close the connection.
        if not exchange.started:
            await refuse(scope, send, answer)


class RefusalMiddleware:
    """Answers refusals before they reach middleware of the user's, which sees answers and no exceptions of ours.

    A request that was open before that middleware made another one of it is one of them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not exchange_of(scope).is_let_in(scope, local_path(scope)):
                raise UnauthorizedError
            await self.app(scope, receive, send)
        except HTTPError as error:
            if not exchange_of(scope).started:
                await refuse(scope, send, error)
        except ClientDisconnected:
            return
