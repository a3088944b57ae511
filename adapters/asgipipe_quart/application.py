"""The Quart application of a deployment: its routing, its threads, and problems in the place of HTML pages."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial, wraps
from inspect import isgenerator
from itertools import count
from typing import Any, NoReturn, TypeVar, cast

import quart
from quart import Quart, Response
from quart.ctx import AppContext
from quart.globals import app_ctx
from quart.utils import run_sync_iterable
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug import Response as WerkzeugResponse
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from asgipipe.errors import HTTPError, NotFoundError, UnauthorizedError
from asgipipe.http.binding.failure import failed, guarded, sendable
from asgipipe.http.exchange import below, exchange_of
from asgipipe.http.middleware.errors import ErrorBoundaryMiddleware
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.middleware import Wrap
from asgipipe_quart.routing import ExactMap, Rule
from asgipipe_quart.tap import Tapped, tap_of
from asgipipe_quart.views import answered, refusal, send_response

T = TypeVar("T")
RunInThread = Callable[[Callable[[], object]], Awaitable[object]]
Refused = Callable[[Scope], HTTPError | None]
AnyResponse = Response | WerkzeugResponse


class Request(quart.Request):
    """Refuses a JSON body that is no text, or nested too deeply, as Quart refuses one that is malformed."""

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # any JSON value
        try:
            return await super().get_json(force, silent, cache)
        except (UnicodeDecodeError, RecursionError) as error:
            return None if silent else self.on_json_loading_failed(error)


class DeploymentQuart(Quart):
    """`fallback` answers where there is no route; `refused_method` knows the 405 of a path.

    Sync views run by `run_in_thread`. `body_limit` is in bytes, and the deployment's: Quart's own limits of size and
    time are off, since all that comes here is limited further out.
    """

    request_class = Request
    url_map_class = ExactMap
    url_rule_class = Rule
    url_map: ExactMap

    def __init__(
        self,
        *,
        fallback: ASGIApp,
        refused_method: Refused,
        run_in_thread: RunInThread,
        body_limit: int,
        **options: Any,  # any keyword arguments of Quart's
    ) -> None:
        self._while_serving: list[Callable[[], AsyncGenerator[None, None]]] = []
        self._doubled: tuple[str, str] | None = None
        self._run_in_thread = run_in_thread
        limits = dict.fromkeys(("MAX_CONTENT_LENGTH", "BODY_TIMEOUT", "RESPONSE_TIMEOUT"))
        own = {**limits, "PROPAGATE_EXCEPTIONS": True}  # to `handle_request`, and not into a log of Quart's
        self.default_config = {**Quart.default_config, **own}  # type: ignore[assignment]  # Quart's is immutable
        super().__init__(**options)
        self._fallback = ErrorBoundaryMiddleware(fallback, ())
        self._refused_method = refused_method
        self._tapped = Tapped(cast(ASGIApp, super().asgi_app), body_limit)
        self._outer: ASGIApp = self._serve
        self._inner: ASGIApp | None = None
        # Quart's types forget that the handlers of a WebSocket's errors may answer nothing.
        handlers: dict[type[Exception], Any] = {
            HTTPError: self._on_refusal,
            HTTPException: self._on_http_exception,
            Exception: self._on_failure,
        }
        for kind, handler in handlers.items():
            self.register_error_handler(kind, handler)

    # Middleware

    def wrap_views(self, wrap: Wrap) -> None:
        """Put an ASGI middleware inside of the functions that Quart calls before and after requests."""
        self._inner = wrap(self._inner or self._innermost)

    def wrap(self, wrap: Wrap) -> None:
        """Put an ASGI middleware around everything but what an extension puts around `asgi_app`."""
        self._outer = wrap(self._outer)

    async def asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        await self._outer(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Those functions are not for WebSockets, so there the middleware inside of them stands around Quart.
        inner = self._inner if scope["type"] == "websocket" else None
        await (inner or self._tapped)(scope, receive, send)

    async def _innermost(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._tapped(scope, receive, send)
            return
        tap_of(scope).reader = receive
        try:
            result = await self._route()
        except Exception as error:  # boundary: middleware sees answers, and no exceptions of the views it is around
            result = await self.handle_user_exception(*_in_context(error))
        await send_response(await self.make_response(result), send)

    # Routes

    def place(self, root: str, path: str, register: Callable[[], None]) -> None:
        """Call `register`; rules that begin with `path` although they are put below it stay where they are.

        `root` is the path in front of all paths.
        """
        self._doubled = root, path
        try:
            register()
        finally:
            self._doubled = None

    def free_name(self, name: str) -> str:
        """Return `name`, with a number behind it where views have that name already."""
        names = (name if number == 1 else f"{name}_{number}" for number in count(1))
        return next(each for each in names if each not in self.view_functions)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Any = None,  # a view of Quart's
        provide_automatic_options: bool | None = None,
        **options: Any,  # any keyword arguments of Rule
    ) -> None:
        if self._doubled is not None:
            root, path = self._doubled
            doubled = f"{root}{path}{path}"
            if path and below(rule, doubled) is not None:
                rule = rule.replace(doubled, f"{root}{path}", 1)
        if provide_automatic_options is None:
            # A method that nobody declared is a 405, as on the other frameworks.
            provide_automatic_options = getattr(view_func, "provide_automatic_options", None) or False
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options, **options)

    async def dispatch_request(self, *_: object) -> Any:  # see `_in_context`
        if self._inner is not None:
            scope = cast(Scope, quart.request.scope)
            return await answered(ErrorBoundaryMiddleware(self._inner, ()), scope)
        return await self._route()

    async def _route(self) -> Any:  # what a view may return
        request = quart.request
        scope = cast(Scope, request.scope)
        error = request.routing_exception
        # What let the request in answers it, whatever route there is at its path.
        exchange = exchange_of(scope)
        if not exchange.is_let_in(scope, exchange.path):
            raise UnauthorizedError
        file = exchange.file
        if file is not None:
            return await answered(file, scope)
        if isinstance(error, NotFound):
            return await answered(self._fallback, scope)
        if not getattr(request.url_rule, "tapped", False):
            tap_of(scope).leave()
        return await super().dispatch_request(*_in_context())

    def raise_routing_exception(self, request: BaseRequestWebsocket) -> NoReturn:
        error = request.routing_exception
        scope = cast(Scope, request.scope)
        if isinstance(error, NotFound):
            raise NotFoundError
        if isinstance(error, MethodNotAllowed):
            raise self._refused_method(scope) or NotFoundError()
        super().raise_routing_exception(request)

    # Threads and lifespan

    def sync_to_async(self, func: Callable[..., T]) -> Callable[..., Awaitable[T]]:
        @wraps(func)
        async def in_thread(*args: Any, **kwargs: Any) -> Any:  # Any: the arguments of the function
            result = await self._run_in_thread(partial(func, *args, **kwargs))
            return run_sync_iterable(result) if isgenerator(result) else result

        return in_thread

    def while_serving(self, func: Callable[[], AsyncGenerator[None, None]]) -> Any:  # the function itself
        self._while_serving.append(func)
        return func

    async def startup(self) -> None:
        # Quart makes each generator when it is declared: after a failed start there would be no second one.
        self.while_serving_gens = [func() for func in self._while_serving]
        try:
            await super().startup()
        except BaseException:
            for generator in reversed(self.while_serving_gens):
                await generator.aclose()
            raise

    # Exceptions

    async def handle_request(self, request: Any) -> AnyResponse:
        """Answer whatever happens, also to what stands around views, such as sessions and functions after requests."""
        try:
            return await guarded(exchange_of(request.scope).path, super().handle_request(request))
        except HTTPError as error:
            return await refusal(error)

    async def handle_websocket(self, websocket: Any) -> AnyResponse | None:
        tap_of(websocket.scope).end_with_view()
        try:
            return await guarded(exchange_of(websocket.scope).path, super().handle_websocket(websocket))
        except HTTPError as error:
            return await _refused_socket(websocket, error)

    async def _on_refusal(self, error: HTTPError) -> AnyResponse | None:
        if quart.has_websocket_context():
            return await _refused_socket(quart.websocket, error)
        return await refusal(error)

    async def _on_http_exception(self, error: HTTPException) -> AnyResponse | None:
        status = error.code or 500
        if error.response is not None:
            return error.get_response()  # a whole answer, which the view made itself
        headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
        if status < 400:
            return Response(b"", status, dict(headers))
        if isinstance(error, InternalServerError) and isinstance(error.original_exception, Exception):
            return await self._on_failure(error.original_exception)
        refused = self._refused_method(_scope()) if status == 405 else None
        # werkzeug's own descriptions speak of browsers; what the view said itself is told.
        said = error.description if error.description != type(error).description else None
        refused = refused or sendable(status, said or error.name, dict(headers))
        return await self._on_refusal(refused or failed(exchange_of(_scope()).path, error))

    async def _on_failure(self, error: Exception) -> AnyResponse | None:
        return await self._on_refusal(failed(exchange_of(_scope()).path, error))


async def _refused_socket(websocket: Any, error: HTTPError) -> AnyResponse | None:
    """Close a WebSocket that was accepted, or return the response for one that was not."""
    if not exchange_of(websocket.scope).started:
        return await refusal(error)
    with suppress(RuntimeError):  # it was closed already
        await websocket.close(1011 if error.status >= 500 else 1008)
    return None


def _in_context(*arguments: Any) -> tuple[Any, ...]:
    """Return what a method of Quart's is called with: from 0.23 on the context of the request is before the rest."""
    return (app_ctx._get_current_object(), *arguments) if hasattr(AppContext, "has_request") else arguments


def _scope() -> Scope:
    connection = quart.websocket if quart.has_websocket_context() else quart.request
    return cast(Scope, connection.scope)
