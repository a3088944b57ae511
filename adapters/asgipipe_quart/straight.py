"""The short way to a handler of Quart's: all that Quart does for a request, without its two tasks for a connection."""

from typing import Any, cast

from asgipipe.http.dispatch import LimitedBody
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe_quart.application import DeploymentQuart
from asgipipe_quart.tap import KEY, Tap
from asgipipe_quart.views import send_connected


class Straight:
    """Asks `app` for its response to a request whose body has come as a whole, and sends it; others take its own way.

    Those tasks read the body while a view runs, and cancel the view when the client leaves. They take a quarter of
    the time of a request (143 µs, 103 without). `limit` is in bytes, `timeout` in seconds, both of the body.
    """

    def __init__(self, app: DeploymentQuart, limit: int, timeout: float) -> None:
        self._app = app
        self._limit = limit
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = LimitedBody(receive, send, self._limit, self._timeout)
        first = await body()
        if first.get("more_body", False) or first["type"] != "http.request" or "asgi_app" in vars(self._app):
            await cast(ASGIApp, self._app)(scope, _again(first, body), body.send)
            return
        scope = {**scope, KEY: Tap(body, body.send, self._limit)}
        connection: Any = self._app.asgi_http_class(self._app, cast(Any, scope))  # Quart's types are those of hypercorn
        request = connection._create_request_from_scope(body.send)
        request.body.set_result(first.get("body", b""))
        await send_connected(await self._app.handle_request(request), body, body.send)


def _again(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives the message that was taken, then those after it."""
    taken = [first]

    async def again() -> Message:
        return taken.pop() if taken else await receive()

    return again
