"""Handlers that take Starlette's request."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import HTTPConnection, Request

from asgipipe.errors import DeadlineError, DefinitionError
from asgipipe.http.binding.failure import guarded
from asgipipe.http.binding.handler import Handler, mentioned, read_handler
from asgipipe.http.binding.result import Result, answering
from asgipipe.http.deadline import within
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import Receive, Scope, Send

RunInThread = Callable[[Callable[[], object]], Awaitable[object]]


class HandlerEndpoint:
    """A handler that is given a Request and returns a Response, or a value that becomes JSON.

    `timeout` is in seconds until the answer begins, None for no deadline. Raises DefinitionError for a handler that
    takes more than a request, or is a generator.
    """

    def __init__(self, handler: Callable[..., object], run_in_thread: RunInThread, timeout: float | None) -> None:
        read = self._handler = read_handler(handler)
        if read.kind.streams:
            raise DefinitionError(
                f"handler {read.label} is a generator, which cannot take the request; return a StreamingResponse"
            )
        self._parameter, self._request = _request_parameter(read)
        self._result = Result(read)
        self._run_in_thread = run_in_thread
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request(scope, receive, send)
        try:
            value, error = await within(self._timeout, guarded(self._handler.label, self._attempt(request)))
        except TimeoutError:
            raise DeadlineError from None
        if error is not None:
            raise error  # as it is, for the exception handlers of `app_kwargs`
        app = answering(value)
        if app is not None:
            await app(scope, receive, send)
        else:
            await respond(send, 200, JSON, self._result.dump(value))

    async def _attempt(self, request: Request) -> tuple[object, Exception | None]:
        handler = self._handler
        by_position, by_name = ((request,), {}) if self._parameter is None else ((), {self._parameter: request})
        call = partial(handler.function, *by_position, **by_name)
        try:
            value = call() if handler.kind.is_async else await self._run_in_thread(call)
            return (await value if inspect.isawaitable(value) else value), None
        except Exception as error:  # boundary: a handler may raise anything; it is raised again outside of the deadline
            return None, error


def _request_parameter(handler: Handler) -> tuple[str | None, type[Request]]:
    """Return the name by which a handler takes the request, None for by position, and the class it asks for."""
    found: list[tuple[str | None, type[Request]]] = []
    for parameter in handler.parameters:
        request = _request_class(parameter, handler)
        if request is not None:
            by_position = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
            found.append((None if by_position else parameter.name, request))
        elif parameter.default is inspect.Parameter.empty:
            raise DefinitionError(
                f"handler {handler.label} takes Starlette's request, and so nothing else: read {parameter.name!r} from"
                " the request"
            )
    if len(found) != 1:
        raise DefinitionError(f"handler {handler.label} takes no single Request: leave one of them")
    return found[0]


def _request_class(parameter: inspect.Parameter, handler: Handler) -> type[Request] | None:
    if parameter.name not in handler.hints:
        return Request if parameter.name == "request" else None
    for kind in mentioned(handler.hints[parameter.name]):
        if isinstance(kind, type) and issubclass(kind, Request):
            return kind
        if kind is HTTPConnection:
            return Request
        if isinstance(kind, type) and issubclass(kind, HTTPConnection):
            raise DefinitionError(
                f"handler {handler.label} takes a {kind.__name__}: give it as a WebSocketRoute, with 'native'"
            )
    return None
