"""Blueprints, views and rules of Quart's own."""

import re

from quart import Blueprint, Quart, Request, Response, websocket
from quart.routing import QuartRule

from asgipipe import BaseDeploymentAppRunner
from tests.reliability.served.texts import CLOSED


async def closed(name: str = "") -> str:
    return f"{CLOSED} {name}"


async def fails() -> str:
    raise LookupError(CLOSED)


async def typed_fails(request: Request) -> Response:
    raise LookupError(CLOSED)


async def opened() -> str:
    return "open"


async def typed_closed(request: Request, name: str) -> Response:
    return Response(f"{CLOSED} {name}{request.path}")


async def typed_open(request: Request) -> Response:
    return Response("open")


async def socket() -> None:
    await websocket.accept()
    await websocket.close(1000)


def blueprint(name: str, path: str, view: object) -> Blueprint:
    made = Blueprint(name, __name__)
    made.add_url_rule(path, view_func=view)  # type: ignore[arg-type]  # a view
    return made


def with_socket() -> Blueprint:
    made = Blueprint("native_socket", __name__)
    made.add_websocket("/native-socket", view_func=socket)
    return made


def passing(response: Response) -> Response:
    return response


async def reading(request: Request) -> Response:
    """Read all that the framework takes apart."""
    read = [await request.form, await request.files, request.args, request.cookies, request.url, request.host]
    return Response(str(len(read)))


async def posted(request: Request) -> Response:
    return Response(ascii(await request.get_json()))


MIDDLEWARE = passing
READING: list[object] = [reading, posted]

ENDPOINTS: list[dict[str, object]] = [
    {"path": "/native-closed", "handler": blueprint("native_closed", "/native-closed", closed), "native": True},
    {
        "path": "/native-open",
        "handler": blueprint("native_open", "/native-open", opened),
        "native": True,
        "auth_required": False,
    },
    {"path": "/mount-closed", "handler": blueprint("mount_closed", "/inside", closed), "native": True},
    {
        "path": "/mount-open",
        "handler": blueprint("mount_open", "/inside", opened),
        "native": True,
        "auth_required": False,
    },
    {"path": "/typed-closed/{name}", "handler": typed_closed, "method": "GET"},
    {"path": "/typed-open", "handler": typed_open, "method": "GET", "auth_required": False},
    {"path": "/typed-fails", "handler": typed_fails, "method": "GET"},
    {"path": "/native-fails", "handler": blueprint("native_fails", "/native-fails", fails), "native": True},
    {"path": "/native-socket", "handler": with_socket(), "native": True},
]


def extend(app_runner: BaseDeploymentAppRunner) -> None:
    app = app_runner.asgi_app
    assert isinstance(app, Quart)
    app.add_url_rule("/taken", "taken_too", closed)
    app.add_websocket("/taken", "taken_socket", socket)
    app.add_url_rule("/extended", "extended", closed, methods=["GET", "POST"])
    app.add_url_rule("/extended/<name>", "extended_below", closed)
    app.view_functions["extended_slash"] = closed
    # Rules of werkzeug's kind, which know nothing of ours.
    app.url_map.add(QuartRule("/extended-slash/", endpoint="extended_slash", methods=["GET"]))


def samples(app: object) -> set[str]:
    assert isinstance(app, Quart)
    return {re.sub("<[^>]*>", "x", rule.rule) for rule in app.url_map.iter_rules()}
