"""A deployment with a key and a route of every kind, one of each kind open.

The environment variable FLAVOR names the app runner; the routes that are its framework's own are in `natives`. What
needs the key answers a text with CLOSED in it.
"""

import asyncio
import importlib
import os
from collections.abc import Mapping
from typing import Protocol, cast

from asgipipe import BaseDeploymentAppRunner, pipeline
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from tests.reliability.served.texts import CLOSED

KEY = "canary-0123456789"


class Natives(Protocol):
    """One framework's routes, as its users write them."""

    ENDPOINTS: list[dict[str, object]]
    MIDDLEWARE: object
    """A native middleware that changes nothing."""
    READING: list[object]
    """Handlers of the framework's kind for POST, which read what it takes apart."""

    def extend(self, app_runner: BaseDeploymentAppRunner) -> None:
        """Add `/extended` and `/extended/{name}`, and put a closed route before the open endpoint at `/taken`."""
        ...

    def samples(self, app: object) -> set[str]:
        """Return a path for each route that the framework's application knows."""
        ...


def natives(flavor: str) -> Natives:
    return cast(Natives, importlib.import_module(f"tests.reliability.served.natives.{flavor}"))


def closed(name: str = "") -> str:
    return f"{CLOSED} {name}"


def fails() -> str:
    raise LookupError(CLOSED)


def opened(name: str = "") -> str:
    return f"open {name}"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo what a WebSocket sends, and fail at `fail`."""
    if scope["type"] != "websocket":
        await send({"type": "http.response.start", "status": 426, "headers": []})
        await send({"type": "http.response.body", "body": b"a WebSocket"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "fail":
            raise SystemExit(1)
        await send({"type": "websocket.send", "text": message["text"]})


def echo_of_its_own() -> ASGIApp:
    """Return an application that is no other endpoint's."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await echo(scope, receive, send)

    return application


def endpoints(flavor: str) -> list[dict[str, object]]:
    get: dict[str, object] = {"method": "GET"}
    own: list[dict[str, object]] = [
        {"path": "/closed", "handler": closed, **get},
        {"path": "/fails", "handler": fails, **get},
        {"path": "/open", "handler": opened, "auth_required": False, **get},
        {"path": "/open", "handler": closed},
        {"path": "/taken", "handler": opened, "auth_required": False, **get},
        {"path": "/closed/{name}", "handler": closed, **get},
        {"path": "/closed/{name}/tail", "handler": closed, **get},
        {"path": "/opened/{name}", "handler": opened, "auth_required": False, **get},
        {"path": "/opened/closed", "handler": closed, **get},
        {"path": "/rest/{name:path}", "handler": closed, **get},
        {"path": "/socket-closed", "handler": echo_of_its_own(), "native": True},
        {"path": "/socket-open", "handler": echo_of_its_own(), "native": True, "auth_required": False},
    ]
    return [*own, *natives(flavor).ENDPOINTS]


def settings_of(flavor: str, *, through: bool = False, **more: object) -> Mapping[str, object]:
    """Return settings; `through` adds an extension and native middleware, so that the framework sees every request."""
    native = natives(flavor)
    added = {
        "custom_middlewares": [{"middleware": native.MIDDLEWARE, "native": True}],
        "app_extensions": [{"extension": native.extend}],
    }
    return {
        "auth_key": KEY,
        "custom_endpoints": endpoints(flavor),
        "max_request_body_size": 1000,
        "deployment_app_runner_flavor": flavor,
        **(added if through else {}),
        **more,
    }


async def work(number: int = 1) -> int:
    if number < 0:
        raise ValueError("negative")
    if number == 0:
        await asyncio.Event().wait()
    return number


guarded = pipeline(
    settings=settings_of(os.environ.get("FLAVOR", "starlette"), through=bool(os.environ.get("THROUGH")))
)(work)
