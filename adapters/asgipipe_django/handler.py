"""Handlers that take Django's request."""

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import wraps
from typing import Union

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from asgipipe.errors import DeadlineError, DefinitionError
from asgipipe.http.binding.failure import guarded
from asgipipe.http.binding.handler import EMPTY, Handler, mentioned, read_handler
from asgipipe.http.binding.result import Result, answering
from asgipipe.http.deadline import within
from asgipipe.http.types import Receive, Scope, Send
from asgipipe_django.request import KEY, Passage, hand_over

InThread = Callable[[Callable[..., object]], Callable[..., Awaitable[object]]]
SendResponse = Callable[[HttpResponseBase, Send], Awaitable[None]]

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class HandlerView:
    """A handler that is given Django's request, and what the path captures, as text, where it asks for them.

    It returns a response of Django's, or a value that becomes JSON. `timeout` is in seconds until the answer begins,
    None for no deadline. Raises DefinitionError for a generator, and for a handler that takes several requests.
    """

    def __init__(
        self, handler: Callable[..., object], in_thread: InThread, send: SendResponse, timeout: float | None
    ) -> None:
        read = self._handler = read_handler(handler)
        if read.kind.streams:
            raise DefinitionError(
                f"handler {read.label} is a generator, which cannot take the request; return a StreamingHttpResponse"
            )
        self._request = _request_parameter(read)
        self._result = Result(replace(read, returned=_without_responses(read.returned)))
        self._call = handler if read.kind.is_async else in_thread(_atomic(handler))
        self._send = send
        self._timeout = timeout

    def as_view(self) -> Callable[..., Awaitable[HttpResponseBase]]:
        """Return the view, with the marks that decorators of Django's have left on the handler."""

        @wraps(self._handler.function)
        async def view(request: HttpRequest, **values: str) -> HttpResponseBase:
            return await self.answer(request, **values)

        return view

    def check(self, names: Iterable[str]) -> None:
        """Raise DefinitionError unless the path, whose parameters are `names`, gives the handler all it needs."""
        for parameter in self._handler.parameters:
            if parameter is self._request or parameter.kind in _VARIABLE:
                continue
            if parameter.name not in names and parameter.default is EMPTY:
                raise DefinitionError(
                    f"handler {self._handler.label} is written for Django, so beside the request it takes parameters of"
                    f" the path only: read {parameter.name!r} from the request"
                )
            if self._handler.hints.get(parameter.name, str) is not str and parameter.name in names:
                raise DefinitionError(
                    f"handler {self._handler.label} is given {parameter.name!r} as text: annotate it as str"
                )

    async def answer(self, request: HttpRequest, **values: str) -> HttpResponseBase:
        handler = self._handler
        try:
            value, error = await within(self._timeout, guarded(handler.label, self._attempt(request, values)))
        except TimeoutError:
            raise DeadlineError from None
        if error is not None:
            raise error  # as it is, for middleware with `process_exception`
        if isinstance(value, HttpResponseBase):
            return value
        app = answering(value)
        if app is not None:
            return await hand_over(request, app)
        return HttpResponse(self._result.dump(value), content_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application does, for the request that is on its way through Django."""
        passage: Passage = scope[KEY]
        assert passage.request is not None
        await self._send(await self.answer(passage.request, **scope["path_params"]), send)

    async def _attempt(self, request: HttpRequest, values: dict[str, str]) -> tuple[object, Exception | None]:
        named: dict[str, object] = {name: value for name, value in values.items() if self._takes(name)}
        by_name = self._request is not None and self._request.kind is inspect.Parameter.KEYWORD_ONLY
        if self._request is not None and by_name:
            named[self._request.name] = request
        try:
            value = self._call(*(() if self._request is None or by_name else (request,)), **named)
            return (await value if inspect.isawaitable(value) else value), None
        except Exception as error:  # boundary: a handler may raise anything; it is raised again outside of the deadline
            return None, error

    def _takes(self, name: str) -> bool:
        return any(
            parameter.name == name or parameter.kind is inspect.Parameter.VAR_KEYWORD
            for parameter in self._handler.parameters
        )


def _request_parameter(handler: Handler) -> inspect.Parameter | None:
    found = [parameter for parameter in handler.parameters if _is_request(parameter, handler)]
    if len(found) > 1:
        raise DefinitionError(f"handler {handler.label} takes {len(found)} HttpRequests: leave one of them")
    if not found:
        return None
    if found[0].kind is not inspect.Parameter.KEYWORD_ONLY and handler.parameters[0] is not found[0]:
        raise DefinitionError(f"handler {handler.label} is called as Django calls a view: put the request first")
    return found[0]


def _is_request(parameter: inspect.Parameter, handler: Handler) -> bool:
    if parameter.name not in handler.hints:
        return parameter.name == "request"
    return any(
        isinstance(kind, type) and issubclass(kind, HttpRequest) for kind in mentioned(handler.hints[parameter.name])
    )


def _without_responses(returned: object) -> object:
    """Return what is left of a declared result without Django's responses, which are sent as they are."""
    members = typing.get_args(returned) if len(mentioned(returned)) > 1 else (returned,)
    kept = [kind for kind in members if not (isinstance(kind, type) and issubclass(kind, HttpResponseBase))]
    if len(kept) == len(members):
        return returned
    return Union[tuple(kept)] if kept else EMPTY  # noqa: UP007  # made at run time


def _atomic(handler: Callable[..., object]) -> Callable[..., object]:
    """Put the transactions around a sync handler that the project wants around its views (ATOMIC_REQUESTS)."""
    exempt: Iterable[str] = getattr(handler, "_non_atomic_requests", ())
    for alias, database in connections.settings.items():
        if database["ATOMIC_REQUESTS"] and alias not in exempt:
            handler = transaction.atomic(using=alias)(handler)
    return handler
