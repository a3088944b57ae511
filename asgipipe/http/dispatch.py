"""The end of the chain: one dictionary look-up for endpoints of ours, else the framework's own application."""

from collections.abc import Awaitable, Mapping
from types import MappingProxyType

from asgipipe.errors import (
    BodyTooLargeError,
    HTTPError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTimeoutError,
)
from asgipipe.http.deadline import within
from asgipipe.http.exchange import KEY, Exchange, exchange_of
from asgipipe.http.problems import send_problem
from asgipipe.http.responses import without_body
from asgipipe.http.routes import Routes, Table, Templates
from asgipipe.http.turn import next_turn
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send


class FrameworkDispatcher:
    """Sends every request through the framework, so that its own middleware sees it."""

    def __init__(self, framework: ASGIApp, *, max_body_size: int, receive_timeout: float) -> None:
        self._framework = framework
        self._max_body_size = max_body_size
        self._receive_timeout = receive_timeout

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answering application's own awaitable, which saves a coroutine on every request."""
        if scope["type"] != "http":
            return self._framework(scope, receive, send)
        return self._pass_on(scope, receive, without_body(send) if scope["method"] == "HEAD" else send)

    def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        body = LimitedBody(receive, send, self._max_body_size, self._receive_timeout)
        return self._framework(scope, body, body.send)


class Dispatcher(FrameworkDispatcher):
    """Answers what is in `table`, `templates`, `sockets` and the dashboard's files without the framework."""

    def __init__(
        self,
        table: Table,
        framework: ASGIApp,
        *,
        templates: Templates | None = None,
        sockets: Mapping[str, ASGIApp] = MappingProxyType({}),
        max_body_size: int,
        receive_timeout: float,
    ) -> None:
        super().__init__(framework, max_body_size=max_body_size, receive_timeout=receive_timeout)
        self._table = table
        self._templates = templates
        self._sockets = sockets

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        exchange: Exchange = scope[KEY]
        if scope["type"] != "http":
            return self._sockets.get(exchange.path, self._framework)(scope, receive, send)
        methods = self._table.get(exchange.path)
        method: str = scope["method"]
        app = exchange.file if methods is None else methods.get(method)
        if method == "HEAD":
            send = without_body(send)
        if app is not None:
            return app(scope, receive, send)
        if methods is None and self._templates is not None:
            found = self._templates.find(method, exchange.path)
            if found is not None:
                app, values = found
                return app({**scope, "path_params": values}, receive, send)
        return self._pass_on(scope, receive, send)


class FallbackEndpoint:
    """What the framework calls where it has no route: the dashboard's file, or the right refusal."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotFoundError
        exchange = exchange_of(scope)
        file = self._routes.file(scope, exchange)
        if file is not None:
            await file(scope, receive, send)
            return
        allowed = self._routes.allowed(exchange.path)
        if allowed:
            raise MethodNotAllowedError(sorted(allowed))
        raise NotFoundError


class LimitedBody:
    """Counts and times a body that somebody else's code reads.

    Whatever that code makes of the refusal, such as a 500 of its own, `send` puts the refusal in its place.
    """

    def __init__(self, receive: Receive, send: Send, limit: int, timeout: float) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._timeout = timeout
        self._size = 0
        self._complete = False
        self._started = False
        self._refusal: HTTPError | None = None

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # waits for the disconnect, as long as it likes
        try:
            message = await within(self._timeout, self._receive())
        except TimeoutError:
            raise self._refuse(RequestTimeoutError()) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._size > self._limit:
                raise self._refuse(BodyTooLargeError(self._limit))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if self._started:
            return self._send(message)
        if self._refusal is None:
            self._started = True
            return self._begin(message)
        return self._send_refusal(message, self._refusal)

    async def _begin(self, message: Message) -> None:
        await next_turn()
        await self._send(message)

    def _refuse(self, error: HTTPError) -> HTTPError:
        self._refusal = error
        return error

    async def _send_refusal(self, message: Message, refusal: HTTPError) -> None:
        if message["type"] == "http.response.start":
            await send_problem(self._send, refusal)
