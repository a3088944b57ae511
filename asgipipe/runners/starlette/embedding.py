"""A deployment inside an application made with Starlette, or with a framework that is Starlette underneath."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Route, Router, WebSocketRoute
from starlette.types import Lifespan, StatelessLifespan

from asgipipe.http.application import Application
from asgipipe.http.exchange import local_path
from asgipipe.http.mounting import checked_prefix, child_scope
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.runners.deployment import Deployment
from asgipipe.runners.embedding import embedded
from asgipipe.runners.starlette.routes import Whole


def mount(
    app: Starlette, path: str, target: object, settings: SettingsLike | None = None, *, name: str | None = None
) -> Deployment:
    """Serve `target`, a pipeline, any callable or a Deployment, at `path` and below it.

    It starts after the application and stops before it; where the application's lifespan does not run, on the first
    request. Raises DefinitionError for a path that is none, and for what cannot be served.
    """
    return mount_deployment(app, path, embedded(target, settings, name=name, flavor="starlette"))


def router(target: object, settings: SettingsLike | None = None, *, name: str | None = None) -> Router:
    """Return the routes of a deployment, for `Mount("/weather", routes=router(target).routes)`.

    Each endpoint is a route with a name, for `url_for` and route lists, and the last one takes what is left. Starlette
    runs no lifespan but the application's own: give it the router's as `lifespan=`, else the first request starts the
    deployment.
    """
    deployment = embedded(target, settings, name=name, flavor="starlette")
    return Router(list(_native_routes(deployment)), redirect_slashes=False, lifespan=holding(deployment))


def mount_deployment(app: Starlette, path: str, deployment: Deployment) -> Deployment:
    """Serve a deployment as `mount` does."""
    prefix = checked_prefix(path)
    routes = app.router.routes
    routes.insert(_place_for(prefix, routes), Whole(prefix, app=_Embedded(deployment.asgi_app), name=deployment.name))
    app.router.lifespan_context = _chained(app.router.lifespan_context, holding(deployment))
    return deployment


def holding(deployment: Deployment) -> StatelessLifespan[Any]:
    """Return a lifespan in which the deployment is started; starts are counted, so there may be any number of them."""

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        await deployment.start()
        try:
            yield
        finally:
            await deployment.stop()

    return lifespan


class _Embedded:
    """The application of a deployment, with what belongs to the host's routes taken out of the scope."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(own_scope(scope, "", local_path(scope)), receive, send)


def own_scope(scope: Scope, prefix: str, local: str) -> Scope:
    """Return the scope for a deployment at `prefix` of what the host's scope is for.

    Without the host's router, by which `url_for` of a native handler in the deployment would look for its routes.
    """
    child = child_scope(scope, prefix, local)
    for key in ("router", "app_root_path"):
        child.pop(key, None)
    return child


def _native_routes(deployment: Deployment) -> Iterator[BaseRoute]:
    app = _Embedded(deployment.asgi_app)
    for endpoint in deployment.app_runner.routes.endpoints:
        yield Route(endpoint.path, app, methods=[endpoint.method], name=endpoint.name, include_in_schema=False)
    for socket in deployment.app_runner.routes.sockets.values():
        yield WebSocketRoute(socket.path, app, name=socket.name)
    yield Whole("", app=app)


def _place_for(prefix: str, routes: list[BaseRoute]) -> int:
    """Return where a mount has to stand among routes: before the first one that takes all below its path."""
    path = f"{prefix}/no/route/of/anybody"
    probe = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    covering = (index for index, route in enumerate(routes) if route.matches(dict(probe))[0] is Match.FULL)
    return next(covering, len(routes))


def _chained(outer: Lifespan[Any], inner: StatelessLifespan[Any]) -> Lifespan[Any]:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[Mapping[str, object] | None]:
        async with outer(app) as state, inner(app):
            yield state

    return cast(Lifespan[Any], lifespan)
