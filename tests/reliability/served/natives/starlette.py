"""Routes of Starlette's own."""

import re
from collections.abc import Awaitable, Callable, Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgipipe import BaseDeploymentAppRunner
from tests.reliability.served.texts import CLOSED


async def closed(request: Request) -> Response:
    return PlainTextResponse(f"{CLOSED} {request.url.path}")


async def fails(request: Request) -> Response:
    raise LookupError(CLOSED)


async def opened(request: Request) -> Response:
    return PlainTextResponse(f"open {request.url.path}")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


async def passing(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


async def reading(request: Request) -> Response:
    """Read all that the framework takes apart."""
    form = await request.form()
    read = [request.url.path, request.base_url.netloc, request.query_params, request.cookies, form]
    return PlainTextResponse(str(len(read)))


MIDDLEWARE = passing
READING: list[object] = [reading]

ENDPOINTS: list[dict[str, object]] = [
    {"path": "/native-closed", "handler": Route("/native-closed", closed), "native": True},
    {"path": "/native-open", "handler": Route("/native-open", opened), "native": True, "auth_required": False},
    {"path": "/mount-closed", "handler": Mount("/mount-closed", routes=[Route("/inside", closed)]), "native": True},
    {
        "path": "/mount-open",
        "handler": Mount("/mount-open", routes=[Route("/inside", opened)]),
        "native": True,
        "auth_required": False,
    },
    {"path": "/typed-closed/{name}", "handler": closed, "method": "GET"},
    {"path": "/typed-open", "handler": opened, "method": "GET", "auth_required": False},
    {"path": "/typed-fails", "handler": fails, "method": "GET"},
    {"path": "/native-fails", "handler": Route("/native-fails", fails), "native": True},
    {"path": "/native-socket", "handler": WebSocketRoute("/native-socket", socket), "native": True},
]


def extend(app_runner: BaseDeploymentAppRunner) -> None:
    app = app_runner.asgi_app
    assert isinstance(app, Starlette)
    app.router.routes.insert(0, Route("/taken", closed))
    app.router.routes.insert(0, WebSocketRoute("/taken", socket))
    app.router.routes.append(Route("/extended", closed, methods=["GET", "POST"]))
    app.mount("/extended", Starlette(routes=[Route("/{name}", closed)]))


def samples(app: object) -> set[str]:
    assert isinstance(app, Starlette)
    return set(_paths(app.routes))


def _paths(routes: Iterable[BaseRoute]) -> Iterable[str]:
    for route in routes:
        if isinstance(route, Mount):
            yield from (filled(route.path) + below for below in ("", "/", *_paths(route.routes or ())))
        elif isinstance(route, Route | WebSocketRoute):
            yield filled(route.path)


def filled(template: str) -> str:
    """Return a path template with something in the place of each parameter."""
    return re.sub(r"\{[^}]*\}", "x", template)
