"""A deployment with a key and a route of every kind, one of each kind open."""

import asyncio

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgipipe import EndpointSpec, pipeline

KEY = "canary-0123456789"


def closed(name: str = "") -> str:
    return f"closed {name}"


def opened(name: str = "") -> str:
    return f"open {name}"


async def native(request: Request) -> Response:
    return PlainTextResponse(f"native {request.url.path}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "fail":
            raise SystemExit(1)
        await websocket.send_text(text)


def spec(path: str, handler: object, *, native: bool = False, auth_required: bool = True) -> EndpointSpec:
    return EndpointSpec.model_validate(
        {"path": path, "method": "GET", "handler": handler, "native": native, "auth_required": auth_required}
    )


ENDPOINTS = [
    spec("/closed", closed),
    spec("/open", opened, auth_required=False),
    spec("/closed/{name}", closed),
    spec("/native-closed", Route("/native-closed", native), native=True),
    spec("/native-open", Route("/native-open", native), native=True, auth_required=False),
    spec("/mount-closed", Mount("/mount-closed", routes=[Route("/inside", native)]), native=True),
    spec("/socket-closed", WebSocketRoute("/socket-closed", echo), native=True),
    spec("/socket-open", WebSocketRoute("/socket-open", echo), native=True, auth_required=False),
]


@pipeline(settings={"auth_key": KEY, "custom_endpoints": ENDPOINTS, "max_request_body_size": 1000})
async def guarded(number: int = 1) -> int:
    if number < 0:
        raise ValueError("negative")
    if number == 0:
        await asyncio.Event().wait()
    return number
