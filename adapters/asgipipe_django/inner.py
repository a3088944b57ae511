"""ASGI middleware among Django's native ones."""

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.middleware import Wrap
from asgipipe_django.application import DjangoApplication
from asgipipe_django.errors import GetResponse
from asgipipe_django.middleware import Factory
from asgipipe_django.request import KEY, Passage, Request, hand_over


def inner_middleware(wrap: Wrap, application: DjangoApplication) -> Factory:
    """Return the factory of an ASGI middleware that stands inside native ones."""

    def make(get_response: GetResponse) -> GetResponse:
        app = wrap(_Inside(application, get_response))
        return _InnerMiddleware(app)

    make.sync_capable, make.async_capable = False, True  # type: ignore[attr-defined]  # marks that Django reads
    return Factory(make, {})


class _InnerMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return await hand_over(request, self._app)


class _Inside:
    """Everything further in, for an ASGI middleware.

    It may have changed the scope and the body, so those further in see a request made of both, with all that native
    middleware has put on theirs.
    """

    def __init__(self, application: DjangoApplication, get_response: GetResponse) -> None:
        self._application = application
        self._get_response = get_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage: Passage = scope[KEY]
        outer = passage.request
        with await self._application.read_body(receive) as body:
            request = passage.request = Request(scope, body)
            request.__dict__ = {**vars(outer), **vars(request)}
            await self._application.send_whole(await self._get_response(request), send)
