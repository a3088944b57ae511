"""Embedding a deployment in a Quart application of the user's."""

import re
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import Any, cast

import quart
from flask.sansio.app import App
from quart import Blueprint, Quart
from quart.blueprints import BlueprintSetupState
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from asgipipe.http.exchange import below, local_path
from asgipipe.http.mounting import Mounts, checked_prefix, child_scope
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.runners.deployment import Deployment
from asgipipe.runners.embedding import embedded
from asgipipe_quart.routing import CONVERTER, AnyPath, rule_of
from asgipipe_quart.tap import KEY, Tapped
from asgipipe_quart.views import answered, connected

EXTENSION = "asgipipe"


def mount(
    app: Quart, prefix: str, target: object, settings: SettingsLike | None = None, *, name: str | None = None
) -> Deployment:
    """Serve `target` at `prefix` of a Quart application, beside whatever that serves, and return its deployment.

    `target` is a pipeline, any callable, or a Deployment. It starts after the application has, and stops before it; in
    tests without a lifespan the first request starts it. All mounts of an application stand around `app.asgi_app` as it
    is at the first of them, so that nothing of the host sees their requests; the longest prefix answers. Raises
    DefinitionError for a prefix that is no path, or taken, and what Deployment raises.
    """
    deployment = embedded(target, settings, name=name, flavor="quart")
    _mounts_of(app).mount(prefix, deployment.asgi_app)
    return deployment


def blueprint(target: object, settings: SettingsLike | None = None, *, name: str | None = None) -> Blueprint:
    """Return a blueprint that serves `target`: `app.register_blueprint(blueprint(agent), url_prefix="/weather")`.

    Every endpoint is a rule of the application's (`url_for("weather_agent.health")`); what has none, WebSockets too, is
    answered by the deployment as well. The host's functions before and after requests, its sessions and its handlers
    of errors are for it as for any blueprint. It starts after the application and stops before it, once, however often
    the blueprint is registered. Raises DefinitionError when it is registered without a `url_prefix`, or with one that
    holds a variable, and what Deployment raises.
    """
    deployment = embedded(target, settings, name=name, flavor="quart")
    made = _Numbered(re.sub(r"\W", "_", deployment.name), __name__)
    made.record(partial(_include, deployment))
    return made


async def start_embedded(app: Quart, stack: AsyncExitStack) -> None:
    """Start what is embedded in an application that gets no lifespan events; `stack` stops it."""
    if EXTENSION in app.extensions:
        await _mounts_of(app).start(stack)


def _mounts_of(app: Quart) -> Mounts:
    """Return what stands around the application for all that is embedded in it."""
    if EXTENSION not in app.extensions:
        mounts = app.extensions[EXTENSION] = Mounts(cast(ASGIApp, app.asgi_app))
        app.asgi_app = mounts  # type: ignore[method-assign,assignment]  # as Quart's documentation has it
    found: Mounts = app.extensions[EXTENSION]
    return found


class _Numbered(Blueprint):
    """Takes another name where its own is taken: a deployment may be included twice, or two of one name."""

    def register(self, app: App, options: dict[str, Any]) -> None:
        prefix = options.get("name_prefix", "")
        names = (self.name if number == 1 else f"{self.name}_{number}" for number in count(1))
        free = next(name for name in names if f"{prefix}.{name}".lstrip(".") not in app.blueprints)
        super().register(app, {"name": free, **options})


def _include(deployment: Deployment, state: BlueprintSetupState) -> None:
    app, prefix = cast(Quart, state.app), checked_prefix(state.url_prefix or "")
    whole = deployment.asgi_app

    async def view(**_: str) -> Any:
        return await answered(whole, _scope_below(prefix, quart.request))

    async def socket(**_: str) -> None:
        await connected(whole, _scope_below(prefix, quart.websocket))

    mounts = _mounts_of(app)
    mounts.include(prefix, deployment.lifecycle)
    mounts.host = _Below(prefix, mounts.host, deployment.settings.max_request_body_size)
    app.url_map.converters[CONVERTER] = AnyPath
    for endpoint in deployment.app_runner.routes.endpoints:
        state.add_url_rule(
            rule_of(endpoint.path),
            endpoint.name,
            view,
            methods=[endpoint.method],
            provide_automatic_options=False,
        )
    for each in deployment.app_runner.routes.sockets.values():
        state.add_url_rule(rule_of(each.path), each.name, cast(Any, socket), websocket=True, methods=["GET"])
    inside = f"{state.name_prefix}.{state.name}.".lstrip(".")
    functions: dict[bool, Any] = {False: view, True: socket}  # Quart's types forget that the latter answers nothing
    for websocket, function in functions.items():
        name = f"{inside}{'any_websocket' if websocket else 'anything'}"
        app.view_functions[name] = function
        for string in (prefix, f"{prefix}/<{CONVERTER}:path>"):
            # Not by `add_url_rule`, which makes it one for GET where no methods are given.
            rule = app.url_rule_class(string, endpoint=name, websocket=websocket, subdomain=state.subdomain)
            app.url_map.add(cast(Rule, rule))


def _scope_below(prefix: str, connection: Any) -> Scope:  # quart's proxy of a request or WebSocket
    scope = cast(Scope, connection.scope)
    if KEY not in scope:  # Quart finds `/proxyweather` below the `root_path` /proxy, which it is not
        raise NotFound
    return child_scope(scope, prefix, connection.path.removeprefix(prefix))


_OF_WEBSOCKETS = {"ws": "http", "wss": "https"}
"""Schemes that an X-Forwarded-Proto gives to HTTP requests; to werkzeug those are WebSockets, for which Quart has no
answer but a 500."""


class _Below:
    """Taps the connections to what lies below `prefix`, and leaves all others as they are."""

    def __init__(self, prefix: str, host: ASGIApp, limit: int) -> None:
        self._prefix = prefix
        self._host = host
        self._tapped = Tapped(host, limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._matches(scope):
            await self._host(scope, receive, send)
            return
        if scope["type"] == "http" and scope["scheme"] in _OF_WEBSOCKETS:
            scope = {**scope, "scheme": _OF_WEBSOCKETS[scope["scheme"]]}
        await self._tapped(scope, receive, send)

    def _matches(self, scope: Scope) -> bool:
        if scope["type"] == "lifespan":
            return False
        path = local_path(scope).lstrip("/")  # as Quart does
        return below(f"/{path}", self._prefix) is not None
