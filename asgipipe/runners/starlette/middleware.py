"""Native middleware, and what stands inside of all of it."""

import asyncio
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from asgipipe.errors import DefinitionError, UnauthorizedError
from asgipipe.http.binding.failure import failed
from asgipipe.http.exchange import exchange_of, local_path
from asgipipe.http.problems import refuse
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.pipelines.callables import kind_of, name_of


def native_middleware(middleware: object, kwargs: Mapping[str, object]) -> Middleware:
    """Return what Starlette is given for a class, a `Middleware` object or a function `(request, call_next, **kwargs)`.

    Raises DefinitionError for anything else, and for arguments that do not fit.
    """
    if isinstance(middleware, Middleware):
        if kwargs:
            raise DefinitionError(
                "a Middleware object has its arguments already: leave out init_kwargs and extra_kwargs"
            )
        return middleware
    if isinstance(middleware, type):
        _require(middleware, 1, kwargs, "(app, **init_kwargs)")
        return Middleware(cast(Any, middleware), **kwargs)  # any class that Starlette takes
    if not callable(middleware):
        raise DefinitionError(f"{middleware!r} is neither a class nor a function of Starlette's kind")
    _require(middleware, 2, kwargs, "(request, call_next, **init_kwargs)")
    if not kind_of(middleware).is_async:
        raise DefinitionError(f"{name_of(middleware)} is called as 'await call_next(request)' is: make it 'async def'")
    return Middleware(BaseHTTPMiddleware, dispatch=partial(middleware, **kwargs))


def _require(middleware: Any, count: int, kwargs: Mapping[str, object], shape: str) -> None:
    try:
        inspect.signature(middleware).bind(*(None,) * count, **kwargs)
    except TypeError as error:
        raise DefinitionError(f"{name_of(middleware)} is called as {shape}: {error}") from None
    except ValueError:  # some builtins have no signature: the call will tell
        return


class Outermost:
    """Stands around all native middleware, and keeps an answer that broke off inside from looking complete.

    BaseHTTPMiddleware ends every stream it passes on, also one whose source failed, before it raises the failure.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ending = scope[_ENDING] = _Ending()

        async def send_truly(message: Message) -> None:
            if ending.broken_off and message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await self._app(scope, receive, send_truly)


class Innermost:
    """Stands between all middleware and the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        if not exchange.is_let_in(scope, local_path(scope)):
            await refuse(scope, send, UnauthorizedError())
            return
        # What let the request in answers it, whatever route there is at its path.
        app = exchange.file or self._app
        ending: _Ending | None = scope.get(_ENDING)
        if ending is not None:
            app = ending.watching(app)
        try:
            await app(scope, receive, send)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:  # boundary: in a task of native middleware it would stop the server
            refusal = failed(exchange.path, error)
            if not exchange.started:
                await refuse(scope, send, refusal)


class _Ending:
    """Whether an answer, as it comes from the routes, broke off."""

    def __init__(self) -> None:
        self.broken_off = False
        self._open = False

    def watching(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def watched_send(message: Message) -> None:
                self._open = message["type"] == "http.response.start" or message.get("more_body", False)
                await send(message)

            try:
                await app(scope, receive, watched_send)
            finally:
                self.broken_off = self._open

        return watched


_ENDING = "asgipipe.ending"
