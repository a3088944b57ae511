"""Handlers that FastAPI calls: with its request, its parameters and its dependencies."""

import json
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any

from fastapi import Request, Response
from pydantic_core import from_json

from asgipipe.errors import BadRequestError, DeadlineError
from asgipipe.http.binding.failure import guarded
from asgipipe.http.binding.handler import label_of
from asgipipe.http.body import require_finite
from asgipipe.http.deadline import within
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.callables import kind_of
from asgipipe_fastapi.routes import OwnRoute

Handler = Callable[..., object]
RunInThread = Callable[[Callable[[], object]], Awaitable[object]]


class HandlerEndpoint:
    """A handler that is registered with FastAPI as it is; `app` is what the `route` it got there would call.

    `function` is what FastAPI calls: plain functions run in the deployment's own threads, not in those of the host.
    """

    app: ASGIApp
    route: OwnRoute

    def __init__(self, handler: Handler, run_in_thread: RunInThread, timeout: float | None) -> None:
        kind = kind_of(handler)
        self.timeout = timeout
        self.function = handler if kind.is_async or kind.streams else _in_thread(handler, run_in_thread)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class HandlerRoute(OwnRoute):
    """The route of such a handler; `timeout` is in seconds until it has answered, its dependencies included."""

    def __init__(self, path: str, endpoint: Handler, *, timeout: float | None, **options: Any) -> None:
        self._timeout = timeout
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, label, timeout = super().get_route_handler(), label_of(self.endpoint), self._timeout

        async def handler(request: Request) -> Response:
            attempt = _attempt(answer(StrictRequest(request.scope, request.receive)))
            try:
                outcome = await within(timeout, guarded(label, attempt))
            except TimeoutError:
                raise DeadlineError from None
            if isinstance(outcome, Exception):
                raise outcome  # as it is, for the exception handlers of `app_kwargs`
            return outcome

        return handler


class StrictRequest(Request):
    """A request whose JSON is that of RFC 8259: in UTF-8, without NaN, and nested no deeper than can be read."""

    async def json(self) -> Any:  # any JSON
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                require_finite(body)
                self._json = from_json(body, allow_inf_nan=False)
            except (BadRequestError, ValueError) as error:
                raise json.JSONDecodeError(str(error), body.decode("utf-8", "replace"), 0) from None
        return self._json


async def _attempt(work: Awaitable[Response]) -> Response | Exception:
    try:
        return await work
    except Exception as error:  # boundary: a handler may raise anything; it is raised again outside of the deadline
        return error


def _in_thread(handler: Handler, run_in_thread: RunInThread) -> Handler:
    @wraps(handler)
    async def call(*args: object, **kwargs: object) -> object:
        return await run_in_thread(partial(handler, *args, **kwargs))

    return call
