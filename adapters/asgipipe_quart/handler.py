"""Handlers that take Quart's request."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial

import quart
from quart.wrappers import Request

from asgipipe.errors import DeadlineError, DefinitionError
from asgipipe.http.binding.failure import guarded
from asgipipe.http.binding.handler import Handler, mentioned, read_handler
from asgipipe.http.deadline import within
from asgipipe.http.types import ASGIApp, Receive, Scope, Send

RunInThread = Callable[[Callable[[], object]], Awaitable[object]]


class HandlerEndpoint:
    """A handler that may take Quart's request, and parameters of the path, and returns what a view may return.

    As a view it runs in Quart's context; as an ASGI application it asks `framework`, which has that view. `timeout` is
    in seconds until the answer begins, None for no deadline. Raises DefinitionError for a handler that takes several
    requests, or is a generator.
    """

    def __init__(
        self,
        handler: Callable[..., object],
        framework: ASGIApp,
        run_in_thread: RunInThread,
        timeout: float | None,
    ) -> None:
        read = self._handler = read_handler(handler)
        if read.kind.streams:
            raise DefinitionError(
                f"handler {read.label} is a generator, which cannot take the request; return a Response of one"
            )
        self._framework = framework
        self._request, self._others = _parameters(read)
        self._by_position = self._request is not None and self._request.kind is inspect.Parameter.POSITIONAL_ONLY
        self._run_in_thread = run_in_thread
        self._timeout = timeout

    def require(self, path: str) -> None:
        """Raise DefinitionError unless what the handler takes beside the request is a parameter of `path`."""
        for parameter in self._others:
            if f"{{{parameter.name}}}" in path or f"{{{parameter.name}:path}}" in path:
                continue
            if parameter.default is inspect.Parameter.empty:
                raise DefinitionError(
                    f"handler {self._handler.label} takes Quart's request, and beside it parameters of the path: read"
                    f" {parameter.name!r} from the request"
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._framework(scope, receive, send)

    async def view(self, **values: str) -> object:
        try:
            value, error = await within(self._timeout, guarded(self._handler.label, self._attempt(values)))
        except TimeoutError:
            raise DeadlineError from None
        if error is not None:
            raise error  # as it is, for the error handlers of the application
        return value

    async def _attempt(self, values: dict[str, str]) -> tuple[object, Exception | None]:
        handler = self._handler
        by_name: dict[str, object] = {each.name: values[each.name] for each in self._others if each.name in values}
        # Not the proxy: it would lead nowhere in a task or thread of the handler's own.
        request: Request = quart.request._get_current_object()  # type: ignore[attr-defined]
        if self._request is not None and not self._by_position:
            by_name[self._request.name] = request
        call = partial(handler.function, *((request,) if self._by_position else ()), **by_name)
        try:
            value = call() if handler.kind.is_async else await self._run_in_thread(call)
            return (await value if inspect.isawaitable(value) else value), None
        except Exception as error:  # boundary: a handler may raise anything; it is raised again outside of the deadline
            return None, error


def _parameters(handler: Handler) -> tuple[inspect.Parameter | None, list[inspect.Parameter]]:
    """Return the parameter for the request, where there is one, and all others."""
    requests = [each for each in handler.parameters if _is_request(each, handler)]
    if len(requests) > 1:
        raise DefinitionError(f"handler {handler.label} takes {len(requests)} Requests: leave one of them")
    return (requests[0] if requests else None), [each for each in handler.parameters if each not in requests]


def _is_request(parameter: inspect.Parameter, handler: Handler) -> bool:
    if parameter.name not in handler.hints:
        return parameter.name == "request"
    kinds = mentioned(handler.hints[parameter.name])
    if quart.Websocket in kinds:
        raise DefinitionError(
            f"handler {handler.label} takes a Websocket: give it as a websocket of a Blueprint, with 'native'"
        )
    return any(isinstance(kind, type) and issubclass(kind, Request) for kind in kinds)
