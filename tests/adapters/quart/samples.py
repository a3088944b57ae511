"""What Quart's users would write: handlers, views, blueprints, middleware."""

import threading
from collections.abc import AsyncIterator

from quart import Blueprint, Quart, Request, Response, abort, g, request, websocket
from quart.views import MethodView, View
from werkzeug.exceptions import Conflict, HTTPException

from asgipipe import pipeline
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send

KEY = "let-me-in"
BEARER = (b"authorization", b"Bearer " + KEY.encode())


@pipeline
async def hello(name: str = "World") -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


# Handlers


async def shouted(given: Request) -> Response:
    return Response((await given.get_data()).upper(), 203)


async def named(request: Request, name: str, rest: str = "none") -> dict[str, str]:
    return {"name": name, "rest": rest, "method": request.method}


def threaded(request: Request) -> tuple[dict[str, str], int, dict[str, str]]:
    return {"thread": threading.current_thread().name, "path": request.path}, 201, {"x-kind": "tuple"}


async def ambient() -> Response:
    return Response(f"{request.method} {request.path}")


async def refusing(request: Request) -> Response:
    kind = request.args["kind"]
    if kind == "plain":
        abort(409)
    if kind == "said":
        raise Conflict("Somebody else has it.")
    if kind == "odd":
        error = HTTPException("A teapot.")
        error.code = 418
        raise error
    if kind == "whole":
        abort(Response("mine", 410, {"x-own": "yes"}))
    if kind == "json":
        await request.get_json()
    if kind == "exit":
        raise SystemExit(3)
    if kind == "lookup":
        raise LookupError("an internal matter")
    return None  # type: ignore[return-value]  # what a forgetful author does


# Native objects


async def told() -> str:
    return f"{request.method} {request.path}"


def told_in_thread() -> str:
    return threading.current_thread().name


async def parted(name: str) -> str:
    return name


class Told(View):
    methods = ("GET", "PUT")

    async def dispatch_request(self) -> str:
        return await told()


class Methods(MethodView):
    async def get(self) -> str:
        return "got"

    async def delete(self) -> str:
        return "deleted"


async def echoed() -> None:
    await websocket.accept()
    await websocket.send(websocket.path)
    await websocket.close(1000)


async def failing_socket() -> None:
    await websocket.accept()
    raise LookupError("an internal matter")


def native_blueprint(prefix: str | None = None, path: str = "/told") -> Blueprint:
    made = Blueprint("native", __name__, url_prefix=prefix)
    made.add_url_rule(path, view_func=told, methods=["GET", "POST"])
    made.add_websocket("/ws", view_func=echoed)
    return made


async def plain_app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-own", b"yes")]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        await send({"type": "websocket.send", "text": f"closed with {message['code']}"})
        return
    if scope["path"].endswith("/fails"):
        raise LookupError("an internal matter")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    body = f"{scope['method']} {scope['path']} below {scope['root_path']}"
    await send({"type": "http.response.body", "body": body.encode()})


# Middleware


class Tagging:
    """Notes that something passed in the header `x-passed`."""

    made = 0

    def __init__(self, app: ASGIApp, tag: str = "class") -> None:
        type(self).made += 1
        self.app = app
        self.tag = tag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tagged(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (b"x-passed", self.tag.encode())]
            await send(message)

        await self.app(scope, receive, tagged)


async def greeted_first() -> None:
    g.greeting = "hello"


async def tagging(response: Response, tag: str = "after") -> Response:
    response.headers.add("x-passed", tag)
    if "greeting" in g:
        response.headers["x-greeting"] = g.greeting
    return response


def stopping() -> Response | None:
    return Response("stopped", 409) if request.args.get("stop") else None


# Hosts


def host() -> Quart:
    app = Quart("host")
    app.secret_key = "not a secret"

    @app.get("/own")
    async def own() -> str:
        return "of the host"

    @app.get("/failing")
    async def failing() -> str:
        raise LookupError("of the host")

    return app


async def ticks() -> AsyncIterator[str]:
    while True:
        yield "tick"
