"""Typed handlers as ASGI applications."""

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import cast

from pydantic_core import PydanticSerializationError
from starlette.responses import StreamingResponse

from asgipipe.errors import DeadlineError, DefinitionError, HTTPError
from asgipipe.http.binding.failure import failed, guarded
from asgipipe.http.binding.handler import Handler, read_handler, wants_framework
from asgipipe.http.binding.operation import describe
from asgipipe.http.binding.parameters import Arguments, read_parameters
from asgipipe.http.binding.result import Result, answering
from asgipipe.http.binding.stream import AsyncChunks, Chunks, RunInThread, SyncChunks, close, guarded_items, stream
from asgipipe.http.body import ClientDisconnected, read_body, require_json
from asgipipe.http.deadline import within
from asgipipe.http.endpoint import Operation
from asgipipe.http.problems import send_problem
from asgipipe.http.responses import JSON, respond
from asgipipe.http.turn import next_turn
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send

AsApp = Callable[[object], ASGIApp | None]
"""Returns what sends a response of the web framework's; None for every other value."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A handler ready to be served; `app` finds the path's values, as text, in `scope["path_params"]`."""

    app: ASGIApp
    operation: Operation


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_body_size` is in bytes, the others in seconds.

    `receive_timeout` is for the whole body; `request_timeout` ends when the answer begins, and is None for no deadline.
    """

    max_body_size: int
    receive_timeout: float
    request_timeout: float | None


def bind(
    handler: object,
    *,
    name: str,
    path: str,
    method: str,
    limits: Limits,
    run_in_thread: RunInThread,
    framework_types: tuple[type, ...] = (),
    as_app: AsApp = lambda _: None,
) -> Bound:
    """Make a plain typed callable an ASGI application.

    Arguments come from the path, the query and the JSON body, by their types (see `parameters`). A result is sent as
    JSON, None as `null`; an ASGI application, such as a response of Starlette's, is sent as it is, and so is what
    `as_app` makes one of; a generator's text is streamed. Refusals and failures are problem documents (RFC 9457). Sync
    handlers run in `run_in_thread`.

    Raises DefinitionError, naming the handler, the parameter and its type, for what cannot be served.
    """
    if wants_framework(handler, framework_types):
        raise DefinitionError(f"handler {read_handler(handler).label} asks for a type of the web framework's")
    read = read_handler(handler)
    arguments = Arguments(read_parameters(read, path, method))
    result = Result(read)
    app = _Endpoint(read, arguments, result, limits, run_in_thread, as_app=as_app)
    return Bound(app, describe(name, read, arguments, result))


class _Endpoint:
    def __init__(
        self,
        handler: Handler,
        arguments: Arguments,
        result: Result,
        limits: Limits,
        run_in_thread: RunInThread,
        *,
        as_app: AsApp,
    ) -> None:
        self._handler = handler
        self._label = handler.label
        self._arguments = arguments
        self._result = result
        self._limits = limits
        self._run_in_thread = run_in_thread
        self._as_app = as_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracked = _TrackedSend(send)
        try:
            # Validators are user code as well.
            arguments = await guarded(self._label, self._read(scope, receive))
            answer = await self._within_deadline(arguments)
            if isinstance(answer, bytes):
                await next_turn()
                await respond(tracked, 200, JSON, answer)
            else:
                await answer(scope, receive, tracked)
        except ClientDisconnected:
            return
        except HTTPError as error:
            # What has begun cannot be mended; left without its end, the client sees that it is not whole.
            if not tracked.started:
                await self._refuse(send, error)

    async def _read(self, scope: Scope, receive: Receive) -> dict[str, object]:
        arguments = self._arguments.from_url(scope)
        if self._arguments.body is not None:
            headers = dict(scope["headers"])
            limits = self._limits
            body = await read_body(receive, headers, limit=limits.max_body_size, timeout=limits.receive_timeout)
            require_json(headers, body)
            arguments |= self._arguments.from_body(body)
        return arguments

    async def _within_deadline(self, arguments: dict[str, object]) -> bytes | ASGIApp:
        try:
            return await within(self._limits.request_timeout, guarded(self._label, self._answer(arguments)))
        except TimeoutError:
            raise DeadlineError from None

    async def _answer(self, arguments: dict[str, object]) -> bytes | ASGIApp:
        """Call the handler and return JSON, or what sends the answer itself."""
        positional, named = self._arguments.ordered(arguments)
        call = partial(self._handler.function, *positional, **named)
        if self._handler.kind.is_async:
            value = call()
        else:
            value = await self._in_thread(call)
        if inspect.isawaitable(value):
            value = await value
        return await self._finish(value)

    async def _finish(self, value: object) -> bytes | ASGIApp:
        if isinstance(value, _Dumped):
            return value.body
        if inspect.isasyncgen(value):
            return await self._begin(AsyncChunks(cast(AsyncGenerator[object, None], value)))
        if inspect.isgenerator(value):
            return await self._begin(SyncChunks(cast(Generator[object, None, None], value), self._run_in_thread))
        app = self._answering(value)
        if isinstance(app, StreamingResponse):
            app.body_iterator = guarded_items(self._label, app.body_iterator)
        if app is not None:
            return partial(self._send_itself, app)
        return self._result.dump(value)

    async def _in_thread(self, call: "partial[object]") -> object:
        outcome = await self._run_in_thread(partial(self._attempt, call))
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    def _attempt(self, call: "partial[object]") -> object:
        """Call a sync handler, and serialise its result here rather than on the event loop."""
        try:
            value = call()
            if self._is_plain(value):
                return _Dumped(self._result.dump(value))
        except BaseException as error:  # boundary: not every exception can leave a thread; raised again on the loop
            return _Raised(error)
        return value

    def _is_plain(self, value: object) -> bool:
        """Tell whether `value` is sent as JSON."""
        if inspect.isawaitable(value) or isinstance(value, Generator | AsyncGenerator):
            return False
        return self._answering(value) is None

    def _answering(self, value: object) -> ASGIApp | None:
        return answering(value) or self._as_app(value)

    # Answers that are sent in pieces

    async def _begin(self, chunks: Chunks) -> ASGIApp:
        """Wait for the first chunk, so that a generator that fails at once is answered with a problem."""
        try:
            first = await chunks.next()
        except BaseException:
            await close(self._label, chunks)
            raise
        return partial(self._stream, first, chunks)

    async def _stream(self, first: bytes | None, chunks: Chunks, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await stream(self._label, first, chunks, receive, send)
        finally:
            await close(self._label, chunks)

    async def _send_itself(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await guarded(self._label, app(scope, receive, send))

    async def _refuse(self, send: Send, error: HTTPError) -> None:
        try:
            await send_problem(send, error)
        except PydanticSerializationError as failure:  # what a handler put into its refusal has no JSON form
            await send_problem(send, failed(self._label, failure))


class _TrackedSend:
    """A `send` that knows whether the answer has begun, and takes the server's OSError for what it means."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        self.started = True
        try:
            await self._send(message)
        except OSError:  # from asgiref 3.7 on: the client is gone
            raise ClientDisconnected from None


@dataclass(frozen=True, slots=True)
class _Dumped:
    body: bytes


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException
