"""A deployment inside a Django project: beside its ASGI application, or among its URLs."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, cast

from django.conf import settings as project
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern

from asgipipe.errors import HTTPError
from asgipipe.http import bridge
from asgipipe.http.application import Application
from asgipipe.http.mounting import Mounts
from asgipipe.http.problems import send_problem
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.runners.deployment import Deployment
from asgipipe.runners.embedding import embedded
from asgipipe_django import wsgi
from asgipipe_django.application import without_transaction
from asgipipe_django.background import loop_for
from asgipipe_django.csrf import refused
from asgipipe_django.patterns import View, regex_of, url_name
from asgipipe_django.request import body_of
from asgipipe_django.response import content_of, response_of

FLAVOR = "django"
_LOCAL = "asgipipe_local"
_included: dict[int, Deployment] = {}
"""Those among the URLs of this process's project, by identity."""


def mount(application: ASGIApp | ASGIHandler, mounts: Mapping[str, object] = MappingProxyType({})) -> ASGIApp:
    """Return the ASGI application of a project with deployments at prefixes of it.

        application = mount(get_asgi_application(), {"/weather": weather_agent})

    Each value is a pipeline, any callable, or a Deployment. They start and stop with the server's lifespan, of which
    Django itself knows nothing. Deployments among the project's URLs stop with it too, so `mount(application)` is of
    use where there are only those: else the end of the server's event loop stops them. Below the prefixes nothing of
    the project's is asked, neither its middleware nor its URLs. Raises DefinitionError for a prefix that is no path,
    and for what cannot be served.
    """
    deployments = {prefix: embedded(target, flavor=FLAVOR) for prefix, target in mounts.items()}
    host = cast(ASGIApp, application)  # Django's own types of it are narrower than what it takes
    mounted = _Project(host, {prefix: deployment.asgi_app for prefix, deployment in deployments.items()})
    forced = project.FORCE_SCRIPT_NAME
    return _Forced(mounted, forced) if forced else mounted


def urls(
    target: object, settings: SettingsLike | None = None, *, name: str | None = None
) -> tuple[list[URLPattern], str]:
    """Return the URL patterns of a deployment, and its name as the namespace, for Django's `include`.

        path("weather/", include(urls(weather_agent)))

    Each endpoint is a pattern, so that `reverse("weather_agent:invoke")` works, and the last one takes what is left.
    `target` is a pipeline, any callable, or a Deployment, which may be included several times. The project's middleware
    stands around all of it, but its CSRF check: that is ours, and lets JSON and bearer keys pass. The first request
    starts the deployment: on the server's event loop, or under WSGI on one of its own, in the background.
    """
    deployment = embedded(target, settings, name=name, flavor=FLAVOR)
    _included[id(deployment)] = deployment
    view = _view(deployment)
    rows = [
        _pattern(regex_of(endpoint.path), view, url_name(endpoint.name))
        for endpoint in deployment.app_runner.routes.endpoints
    ]
    return [*rows, _pattern("(?:.|\\n)*", view, None)], deployment.name


def _pattern(regex: str, view: View, name: str | None) -> URLPattern:
    return URLPattern(_Local(regex, name), view, name=name)


class _Local(RegexPattern):
    """A pattern that tells its view what of the path lies below the place of the include."""

    def __init__(self, regex: str, name: str | None) -> None:
        super().__init__(f"^{regex}\\Z", name=name, is_endpoint=True)

    def match(self, path: str) -> Any:  # the rest of the path, and its arguments
        found = super().match(path)
        if found is None:
            return None
        rest, _, captured = found
        return rest, (), {**captured, _LOCAL: f"/{path}"}


def _view(deployment: Deployment) -> View:
    async def view(request: HttpRequest, **captured: str) -> HttpResponseBase:
        error = await refused(request)
        app = deployment.asgi_app if error is None else _refusing(deployment, error)
        local = captured[_LOCAL]
        root = script_name(request).rstrip("/") + request.path_info.removesuffix(local)
        if isinstance(request, WSGIRequest):
            return wsgi.answer(request, app, wsgi.scope_of(request, root + local, root), loop_for(deployment))
        scope = cast(ASGIRequest, request).scope
        own = {key: value for key, value in scope.items() if not key.startswith("asgipipe")}
        own |= {"root_path": root, "path": root + local}
        if isinstance(own["query_string"], str):  # Django's AsyncClient has text where ASGI has bytes
            own["query_string"] = own["query_string"].encode()
        answer = await bridge.answer(app, own, body_of(request))
        return response_of(answer.status, answer.headers, content_of(answer))

    view.csrf_exempt = True  # type: ignore[attr-defined]  # the project's own check would ask programs for a token
    return without_transaction(view)


def _refusing(deployment: Deployment, error: HTTPError) -> Application:
    """Return what answers with a refusal, the headers of all answers, and an entry in the metrics."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_problem(send, error)

    return Application(answer, deployment.settings, deployment.lifecycle, deployment.metrics)


def script_name(request: HttpRequest) -> str:
    found: str = request.META["SCRIPT_NAME"]
    return found


class _Project(Mounts):
    """The application of a project: what it has among its URLs stops after what is mounted, and before the server."""

    async def start(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(_stop_included)
        await super().start(stack)


async def _stop_included() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:  # one that fails keeps no other from its stop
        for deployment in _included.values():
            if deployment.lifecycle.started and deployment.executor.loop is loop:
                stack.push_async_callback(deployment.stop)


class _Forced:
    """Puts the project's FORCE_SCRIPT_NAME in the place of the server's root path, as Django itself does."""

    def __init__(self, app: ASGIApp, script_name: str) -> None:
        self._app = app
        self._script_name = script_name.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "root_path": self._script_name}
        await self._app(scope, receive, send)
