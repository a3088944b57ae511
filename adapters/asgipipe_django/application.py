"""Django's handler with URL patterns and middleware of its own, in the place of the project's."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import IO, Any, TypeVar, cast

from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction, sync_to_async
from django.core.exceptions import MiddlewareNotUsed, RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.urls import Resolver404, ResolverMatch, URLPattern, URLResolver, set_urlconf

from asgipipe.errors import DefinitionError, HTTPError, MethodNotAllowedError, UnauthorizedError
from asgipipe.http.exchange import exchange_of
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe_django.connections import any_databases
from asgipipe_django.errors import GetResponse, refusing
from asgipipe_django.middleware import Factory
from asgipipe_django.patterns import BELOW, Row, SocketRow, View, Whole
from asgipipe_django.request import KEY, Passage, Request, hand_over
from asgipipe_django.response import refusal

T = TypeVar("T")
Pattern = URLPattern | URLResolver
Allowed = Callable[[str], set[str]]


class DjangoApplication(ASGIHandler):
    """The Django part of a deployment, for extensions to change.

    `urlpatterns` are tried in their order, so what is appended comes after all that is served already; `middleware`
    holds the factories `get_response -> middleware`, outermost first. It is a URL configuration too:
    `reverse("invoke", urlconf=app)`. The project's ROOT_URLCONF and MIDDLEWARE have no part in it.

    `fallback` answers where no pattern does; `allowed` gives the methods that rows of ours have at a path. Sync views
    run in `threads` unless sync middleware stands around them: then they share its thread.
    """

    request_class = Request

    def __init__(self, fallback: ASGIApp, allowed: Allowed, threads: "Threads") -> None:
        self.urlpatterns: list[Pattern] = []
        self.middleware: list[Factory] = []
        self._fallback = fallback
        self._allowed = allowed
        self._threads = threads
        self._sync_middleware = False
        self._one_thread = True
        super().__init__()

    def find(self, scope: Scope) -> tuple[Pattern, ResolverMatch] | None:
        """Return the pattern that answers, and what it captures."""
        path = exchange_of(scope).path
        if not path.startswith("/"):
            return None
        method = scope.get("method")
        for pattern in self.urlpatterns:
            if not _may_answer(pattern, "GET" if method == "HEAD" else method):
                continue
            try:
                match = pattern.resolve(path[1:])
            except Resolver404:
                continue
            if match:
                return pattern, match
        return None

    async def enter(self, scope: Scope, receive: Receive, send: Send, match: ResolverMatch | None = None) -> None:
        """Answer a request through Django's middleware and views; `match` is what was found for it already."""
        self._use_urlconf()
        passage = Passage(match)
        try:
            handle = super().__call__ if self._one_thread else self.handle
            await handle({**scope, KEY: passage}, receive, cast(Any, send))  # its messages are dictionaries
        finally:
            await passage.ended()
            if passage.body is not None:
                passage.body.close()  # Django leaves it open where it is cancelled

    async def straight(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer without Django where only an application of ours would be asked; Django knows no WebSocket."""
        exchange, found = exchange_of(scope), self.find(scope)
        if exchange.file is not None:
            await exchange.file(scope, receive, send)
        elif found is None:
            await self._fallback(scope, receive, send)
        elif isinstance(found[0], Row | SocketRow | Whole) and found[0].app is not None:
            await found[0].app({**scope, **_members(scope, found[1].kwargs)}, receive, send)
        else:
            await self.enter(scope, receive, send, found[1])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]  # see types.py
        handle = self.enter if scope["type"] == "http" else self.straight
        await handle(scope, receive, send)

    # What Django's handler is made of

    def load_middleware(self, is_async: bool = True) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        self._sync_middleware = False
        handler, handler_is_async = refusing(self._get_response_async, is_async=True), True
        for factory in reversed(self.middleware):
            handler, handler_is_async = self._around(factory, handler, handler_is_async)
            self._sync_middleware |= not handler_is_async
        self._one_thread = self._sync_middleware or any_databases()
        self._chain: Any = self.adapt_method_mode(True, handler, handler_is_async)
        self._middleware_chain = self._chain

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        self._use_urlconf()
        async with self._thread():
            response: Any = await self._chain(request)
        response._resource_closers.append(request.close)
        return cast(HttpResponseBase, response)

    async def _get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super()._get_response_async(request)  # type: ignore[misc]  # the stubs leave it out
        if isinstance(response, HttpResponseNotAllowed):  # it names the methods of one view
            allowed = {method.strip() for method in response["Allow"].split(",")} | self._allowed(request.path_info)
            return refusal(MethodNotAllowedError(sorted(allowed - {""})))
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        if (
            isinstance(response, HttpResponse)
            and "Content-Length" not in response
            and response.status_code not in (204, 304)
        ):
            response["Content-Length"] = str(len(response.content))
        async with self._thread():
            await super().send_response(response, cast(Any, send))

    async def send_whole(self, response: HttpResponseBase, send: Send) -> None:
        """Send a response that answers no request of Django's, and close what belongs to it."""
        try:
            await self.send_response(response, send)
        finally:
            closers: list[Callable[[], None]] = response._resource_closers  # type: ignore[attr-defined]  # not in the stubs
            for close in closers:  # its `close` would announce the end of a whole request
                close()

    async def read_body(self, receive: Receive) -> IO[bytes]:  # type: ignore[override]  # see types.py
        refused: list[HTTPError] = []

        async def received() -> Message:
            try:
                return await receive()
            except HTTPError as error:
                refused.append(error)
                return {"type": "http.disconnect"}  # at which Django closes the file it has begun

        try:
            return await super().read_body(received)
        except RequestAborted:
            if refused:
                raise refused[0] from None
            raise

    def create_request(self, scope: Scope, body_file: IO[bytes]) -> Any:  # type: ignore[override]  # see types.py
        made = super().create_request(scope, body_file)
        passage: Passage = scope[KEY]
        passage.request, passage.body = made[0], body_file
        return made

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        if hasattr(request, "urlconf"):  # some middleware's wish
            if exchange_of(request.scope).opened is not None:  # type: ignore[attr-defined]  # see below
                raise UnauthorizedError  # what would answer is not what was found open
            return super().resolve_request(request)
        request.resolver_match = match = self._match(request.scope)  # type: ignore[attr-defined]  # an ASGI request
        return match

    def _match(self, scope: Scope) -> ResolverMatch:
        passage: Passage = scope[KEY]
        if passage.match is not None:
            return passage.match
        file, found = exchange_of(scope).file, self.find(scope)
        # What let the request in answers it, whatever pattern there is at its path.
        if file is not None or found is None:
            return ResolverMatch(view_of(file or self._fallback), (), {})
        return found[1]

    def make_view_atomic(self, view: View) -> View:
        view = super().make_view_atomic(view)
        if iscoroutinefunction(view) or self._sync_middleware:
            return view
        return self._threads.wrap(view)

    def _use_urlconf(self) -> None:
        set_urlconf(cast(str, self))  # any object with `urlpatterns`, for Django

    def _thread(self) -> AbstractAsyncContextManager[object]:
        """Return the context in which sync code that async code calls (`sync_to_async`) has a thread of its own.

        Django has one around the whole request, in whose thread the signals are sent as well. That is for sync
        middleware and for the database; where there is neither, not starting a thread for the signals of every request
        takes it from 675 to 290 µs.
        """
        return nullcontext() if self._one_thread else ThreadSensitiveContext()

    def _around(self, factory: Factory, handler: GetResponse, handler_is_async: bool) -> tuple[GetResponse, bool]:
        """Put one middleware around `handler`, as Django's own `load_middleware` does."""
        is_async = factory.async_capable and (handler_is_async or not factory.sync_capable)
        try:
            made = factory(self.adapt_method_mode(is_async, handler, handler_is_async))
        except MiddlewareNotUsed:
            return handler, handler_is_async
        if not callable(made):
            raise DefinitionError(f"{factory.label} returned {made!r} in the place of a middleware")
        if _is_async(made) and not is_async:
            raise DefinitionError(
                f"{factory.label} is async, but does not say so: decorate it with async_only_middleware or"
                " sync_and_async_middleware of django.utils.decorators, or give its class async_capable = True"
            )
        if hasattr(made, "process_view"):
            self._view_middleware.insert(0, self.adapt_method_mode(True, made.process_view))
        if hasattr(made, "process_template_response"):
            self._template_response_middleware.append(self.adapt_method_mode(True, made.process_template_response))
        if hasattr(made, "process_exception"):
            self._exception_middleware.append(self.adapt_method_mode(False, made.process_exception))
        return refusing(made, is_async=is_async), is_async


class Threads(Executor):
    """The threads of a deployment, in the form that asgiref takes.

    It carries the language, the URL configuration and the like over to the thread; a bare call of ours would not.
    """

    def __init__(self, executor: ThreadExecutor) -> None:
        self._executor = executor

    def wrap(self, function: Callable[..., object]) -> Callable[..., Any]:  # a coroutine function of the same arguments
        """Return `function` as one that runs here."""
        threads: Any = self  # asgiref's type asks for one kind of Executor, its code for any
        return sync_to_async(function, thread_sensitive=False, executor=threads)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":  # any function's arguments
        future: Future[T] = Future()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # boundary: a view may raise anything; it is raised again on the event loop
                future.set_exception(error)
            else:
                future.set_result(result)

        self._executor.submit(work)
        return future


def view_of(app: ASGIApp) -> View:
    """Return the view that answers with an ASGI application."""

    async def view(request: HttpRequest, **captured: str) -> HttpResponseBase:
        scope: Scope = request.scope  # type: ignore[attr-defined]  # an ASGI request
        try:
            return await hand_over(request, app, **_members(scope, captured))
        except HTTPError as error:  # further out it would cost a thread: Django's hooks for exceptions are sync
            return refusal(error)

    # Forged forms are of no use where the key is in a header.
    view.csrf_exempt = True  # type: ignore[attr-defined]
    return without_transaction(view)


def without_transaction(view: View) -> View:
    """Mark an async view as one that needs no transaction around it: Django could not give it one."""
    view._non_atomic_requests = frozenset(connections.settings)  # type: ignore[attr-defined]
    return view


def _members(scope: Scope, captured: Mapping[str, str]) -> Mapping[str, object]:
    """Return what a pattern of ours adds to the scope: the path's values, and for what is mounted, its root path."""
    values = dict(captured)
    below = values.pop(BELOW, None)
    if below is None:
        return {"path_params": values}
    path = exchange_of(scope).path
    prefix = path[: len(path) - len(below)].rstrip("/")
    return {"path_params": values, "root_path": scope.get("root_path", "").rstrip("/") + prefix}


def _is_async(middleware: Callable[..., object]) -> bool:
    return iscoroutinefunction(middleware) or iscoroutinefunction(type(middleware).__call__)


def _may_answer(pattern: Pattern, method: str | None) -> bool:
    if method is None:  # a WebSocket
        return isinstance(pattern, SocketRow | Whole)
    return pattern.method == method if isinstance(pattern, Row) else not isinstance(pattern, SocketRow)
