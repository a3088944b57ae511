"""A deployment inside a FastAPI application of the user's."""

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.routing import Match

from asgipipe.http.application import Application
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import local_path
from asgipipe.http.openapi import TEMPLATE
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.runners.deployment import Deployment
from asgipipe.runners.embedding import embedded
from asgipipe.runners.starlette.embedding import holding, mount_deployment, own_scope
from asgipipe_fastapi.documents import Documents, Object
from asgipipe_fastapi.routes import Row

BELOW = "path_below"
"""The path parameter that takes the whole rest of a path."""


def mount(
    app: FastAPI, path: str, target: object, settings: SettingsLike | None = None, *, name: str | None = None
) -> Deployment:
    """Serve `target`, a pipeline, any callable or a Deployment, at `path` and below it.

    It starts after the application and stops before it; where the application's lifespan does not run, on the first
    request. Raises DefinitionError for a path that is none, and for what cannot be served.
    """
    return mount_deployment(app, path, embedded(target, settings, name=name, flavor="fastapi"))


def router(target: object, settings: SettingsLike | None = None, *, name: str | None = None) -> APIRouter:
    """Return the routes of a deployment, for `app.include_router(router(target), prefix="/weather")`.

    All that is said of the include, such as `dependencies`, holds for every request below the prefix, also where no
    endpoint is. The endpoints are in the application's OpenAPI document; it starts and stops with the application.
    """
    deployment = embedded(target, settings, name=name, flavor="fastapi")
    documents = Documents(deployment)
    included = APIRouter(lifespan=holding(deployment))
    for endpoint in deployment.app_runner.routes.endpoints:
        options = {**_key_options(deployment, endpoint), **documents.options(endpoint)}
        row = Row(_Below(deployment.asgi_app, endpoint.path))
        included.add_api_route(endpoint.path, row, methods=[endpoint.method], name=endpoint.name, **options)
    for socket in deployment.app_runner.routes.sockets.values():
        below = _Below(deployment.asgi_app, socket.path)
        included.add_api_websocket_route(socket.path, below.websocket, name=socket.name)
    rest = f"{{{BELOW}:path}}"
    included.add_api_route(
        rest,
        Row(_Below(deployment.asgi_app, rest)),
        methods=[],  # any
        operation_id=BELOW,  # by default it is made of the methods
        name=deployment.name,
        include_in_schema=False,
        route_class_override=_Rest,
    )
    included.add_api_websocket_route(f"/{rest}", _Below(deployment.asgi_app, f"/{rest}").websocket)
    return included


class _Below:
    """The application of a deployment, for requests that a route at `path` below its prefix took.

    The prefix is known when the router is included, which may be more than once: it is what stands before `path`.
    """

    def __init__(self, application: Application, path: str) -> None:
        self._application = application
        self._slashes = path.count("/")
        self._names = [name for name, converter in TEMPLATE.findall(path) if converter == "path"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = local_path(scope)
        parameters = scope["path_params"]
        slashes = self._slashes + sum(parameters[name].count("/") for name in self._names)
        own = "".join(f"/{part}" for part in whole.rsplit("/", slashes)[1:]) if slashes else ""
        child = own_scope(scope, whole[: len(whole) - len(own)], own)
        child.pop("fastapi", None)  # what FastAPI found out about the host's own route
        await self._application(child, receive, send)

    async def websocket(self, websocket: WebSocket) -> None:
        await self(websocket.scope, websocket.receive, websocket.send)


def _key_options(deployment: Deployment, endpoint: Endpoint) -> Object:
    """Let the host's document say that a key is needed; whether it is the right one is the deployment's business."""
    if not deployment.auth_keys or not endpoint.auth_required:
        return {}
    return {"dependencies": [Depends(HTTPBearer(scheme_name="DeploymentKey", auto_error=False))]}


class _Rest(APIRoute):
    """Takes what is left below a prefix, and the prefix itself, but not what only begins with the same letters."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # To Starlette's regular expression a line break is the end of a path.
        match, child = super().matches({**scope, "path": scope["path"].replace("\n", " ")})
        if match is not Match.NONE and child["path_params"][BELOW][:1] not in ("", "/"):
            return Match.NONE, {}
        return match, child
