"""The story in places where something stands around it that would hold its events back, or cut them off.

A server is given `application`; the header `x-specimen` names the place. Inside of hosts it is at `/below`.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from fastapi import FastAPI
from quart import Quart, Response
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

import asgipipe_fastapi
import asgipipe_quart
from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.runners import starlette
from asgipipe.testing.served import Showcase
from tests.reliability.served.story import story

HEARTBEAT = 0.05
RESPONSE_TIMEOUT = 0.3
"""Seconds that Quart gives an answer; 60 unless an application says otherwise."""

GZIP = {"middleware": GZipMiddleware, "native": True, "init_kwargs": {"minimum_size": 1}}


async def unchanged(response: Response) -> Response:
    return response


def limit_answers(app_runner: Any) -> None:
    app_runner.asgi_app.config["RESPONSE_TIMEOUT"] = RESPONSE_TIMEOUT


def settings(**more: object) -> Mapping[str, object]:
    return {"stream_heartbeat": HEARTBEAT, **more}


def alone(name: str, flavor: str, **more: object) -> ASGIApp:
    app: ASGIApp = Deployment(story, settings(deployment_app_runner_flavor=flavor, **more), name=name).asgi_app
    return app


def zipping(host: Callable[..., Starlette], mount: Callable[..., object], name: str) -> ASGIApp:
    app = host(middleware=[Middleware(GZipMiddleware, minimum_size=1)])
    mount(app, "/below", story, settings(), name=name)
    return app


def hurried(name: str) -> Quart:
    """Return a host of Quart's that gives its answers little time."""
    app = Quart(name)
    app.config["RESPONSE_TIMEOUT"] = RESPONSE_TIMEOUT
    return app


def mounted(name: str) -> ASGIApp:
    app = hurried(name)
    asgipipe_quart.mount(app, "/below", story, settings(), name=name)
    return cast(ASGIApp, app)


def included(name: str) -> ASGIApp:
    app = hurried(name)
    app.register_blueprint(asgipipe_quart.blueprint(story, settings(), name=name), url_prefix="/below")
    return cast(ASGIApp, app)


PLACES: Mapping[str, Callable[[str], ASGIApp]] = {
    "starlette-gzip": lambda name: alone(name, "starlette", custom_middlewares=[GZIP]),
    "fastapi-gzip": lambda name: alone(name, "fastapi", custom_middlewares=[GZIP]),
    "starlette-gzip-around": lambda name: zipping(Starlette, starlette.mount, name),
    "fastapi-gzip-around": lambda name: zipping(FastAPI, asgipipe_fastapi.mount, name),
    "quart": lambda name: alone(name, "quart", app_extensions=[{"extension": limit_answers}]),
    "quart-native": lambda name: alone(
        name,
        "quart",
        app_extensions=[{"extension": limit_answers}],
        custom_middlewares=[{"middleware": unchanged, "native": True}],
    ),
    "quart-mounted": mounted,
    "quart-blueprint": included,
}


def application() -> ASGIApp:
    return Showcase({name.encode(): make(name) for name, make in PLACES.items()})
