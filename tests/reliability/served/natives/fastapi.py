"""Routes of FastAPI's own."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from fastapi import (
    APIRouter,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    Query,
    Request,
    UploadFile,
    WebSocket,
)
from fastapi.responses import PlainTextResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from asgipipe import BaseDeploymentAppRunner
from tests.reliability.served.natives import starlette
from tests.reliability.served.natives.starlette import MIDDLEWARE, filled
from tests.reliability.served.texts import CLOSED

__all__ = ["ENDPOINTS", "MIDDLEWARE", "READING", "extend", "samples"]


async def nothing() -> str:
    return ""


async def closed(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{CLOSED} {request.url.path}")


async def fails(request: Request) -> PlainTextResponse:
    raise LookupError(CLOSED)


async def opened() -> PlainTextResponse:
    return PlainTextResponse("open")


async def depends(name: str, given: Annotated[str, Depends(nothing)]) -> str:
    return f"{CLOSED} {name}{given}"


async def depends_too(given: Annotated[str, Depends(nothing)]) -> str:
    return f"open{given}"


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


class Nested(BaseModel):
    items: list[float] = []
    more: "Nested | None" = None


async def reading(
    request: Request,
    body: Nested,
    number: Annotated[int, Query(alias="mode")] = 0,
    accept: Annotated[datetime | None, Header()] = None,
    session: Annotated[int, Cookie()] = 0,
) -> Nested:
    """Read all that the framework takes apart."""
    assert request.url.path
    return body


async def form(
    request: Request, count: Annotated[int, Form()], file: Annotated[UploadFile | None, File()] = None
) -> str:
    return f"{count} {request.base_url.netloc}"


READING: list[object] = [reading, form]


def router(path: str, answer: object, *, nested: bool = False) -> APIRouter:
    made = APIRouter()
    made.add_api_route(path, answer, response_model=None)  # type: ignore[arg-type]  # a handler
    if not nested:
        return made
    outer = APIRouter()
    outer.include_router(made)
    return outer


def with_socket() -> APIRouter:
    made = APIRouter()
    made.add_api_websocket_route("", socket)
    return made


ENDPOINTS: list[dict[str, object]] = [
    {"path": "/native-closed", "handler": router("", closed), "native": True},
    {"path": "/native-open", "handler": router("", opened), "native": True, "auth_required": False},
    {"path": "/mount-closed", "handler": router("/inside", closed, nested=True), "native": True},
    {
        "path": "/mount-open",
        "handler": router("/inside", opened, nested=True),
        "native": True,
        "auth_required": False,
    },
    {"path": "/typed-closed/{name}", "handler": depends, "method": "GET"},
    {"path": "/typed-open", "handler": depends_too, "method": "GET", "auth_required": False},
    {"path": "/typed-fails", "handler": fails, "method": "GET"},
    {"path": "/native-fails", "handler": router("", fails), "native": True},
    {"path": "/native-socket", "handler": with_socket(), "native": True},
]


def extend(app_runner: BaseDeploymentAppRunner) -> None:
    app = app_runner.asgi_app
    assert isinstance(app, FastAPI)
    app.include_router(router("/extended", closed))
    app.add_api_route("/extended", closed, methods=["POST"], response_model=None)
    app.mount("/extended", Starlette(routes=[Route("/{name}", starlette.closed)]))
    app.openapi_url, app.docs_url = "/fastapi.json", "/fastapi-docs"
    app.setup()  # FastAPI's own documents
    app.router.routes.insert(0, Route("/taken", starlette.closed))


def samples(app: object) -> set[str]:
    assert isinstance(app, FastAPI)
    return set(_paths(app.routes))


def _paths(routes: Iterable[BaseRoute]) -> Iterable[str]:
    for context in iter_route_contexts(list(routes)):
        route = context.original_route
        if isinstance(route, Mount):
            yield from (filled(route.path) + below for below in ("", "/", *_paths(route.routes or ())))
        else:
            yield filled(context.path or "")
