"""Several deployments in one application, each under its name, and the list of what is served where.

    /<name>/...   the deployment of that name, as an ASGI mount
    /pipelines    what is served where; needs a key when a deployment does
    /health       200 when all deployments are healthy
    /ready        200 when all deployments are ready
    /openapi.json describes these; each deployment has a document of its own

A single deployment stands at the root itself, beside `/pipelines`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol

from pydantic_core import to_json

from asgipipe.errors import DefinitionError, MethodNotAllowedError, NotFoundError, UnavailableError
from asgipipe.http import operations
from asgipipe.http.application import Application
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import Exchange, exchange_of, local_path
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.middleware.auth import Auth
from asgipipe.http.middleware.errors import Check, ErrorBoundaryMiddleware
from asgipipe.http.middleware.limits import Limits
from asgipipe.http.mounting import child_scope
from asgipipe.http.openapi import openapi_document
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.pipeline import Pipeline
from asgipipe.service.deployment import BaseDeploymentService
from asgipipe.service.metrics import Metrics
from asgipipe.settings import DeploymentSettings
from asgipipe.settings.deployment import built_in_paths

PIPELINES = "/pipelines"
HEALTH = "/health"
READY = "/ready"
OPENAPI = "/openapi.json"
_OPEN = frozenset((HEALTH, READY, OPENAPI))
_RESERVED = frozenset(path[1:] for path in (PIPELINES, HEALTH, READY, OPENAPI))

Answer = Callable[[Scope], Awaitable[Mapping[str, object]]]


class Indexed(Protocol):
    """What the index needs of a deployment."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> DeploymentSettings: ...
    @property
    def pipeline(self) -> Pipeline[..., object]: ...
    @property
    def service(self) -> BaseDeploymentService: ...
    @property
    def lifecycle(self) -> Lifecycle: ...
    @property
    def asgi_app(self) -> ASGIApp: ...
    @property
    def auth_keys(self) -> Sequence[str]: ...


def url_name(name: str) -> str:
    """Return `name` as one segment of a URL: what is neither a letter, a digit, `_`, `.` nor `-` becomes a `-`.

    Raises DefinitionError when nothing is left of it.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    if not safe:
        raise DefinitionError(f"{name!r} cannot be part of a URL; give the pipeline another name")
    return safe


def url_names(names: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Return the URL names of several deployments; `origins` says in errors where each comes from.

    Raises DefinitionError for two of the same name, and for a name that the index needs.
    """
    owners: dict[str, str] = {}
    for name, origin in zip(names, origins, strict=True):
        safe = url_name(name)
        if safe in _RESERVED:
            raise DefinitionError(f"{origin} is named {name!r}, but /{safe} is the index's own path; rename it")
        if safe in owners:
            raise DefinitionError(f"{owners[safe]} and {origin} would both be served at /{safe}; rename one pipeline")
        owners[safe] = origin
    return list(owners)


class PipelineIndex:
    """The ASGI application over `deployments`; of lifespan events it knows nothing.

    `states` may hold, by the name of a deployment, the lifespan state of its framework; whoever starts several
    deployments puts it there, because a server has one state for all.
    """

    def __init__(self, deployments: Sequence[Indexed], origins: Sequence[str] = ()) -> None:
        self._deployments = tuple(deployments)
        self._only = deployments[0] if len(deployments) == 1 else None
        names = [deployment.name for deployment in deployments]
        prefixes = [""] if self._only else [f"/{name}" for name in url_names(names, origins or names)]
        self._mounts = dict(zip(prefixes, deployments, strict=True))
        self._answers: dict[str, Answer] = {PIPELINES: self._pipelines}
        if self._only is None:
            self._answers |= {HEALTH: self._health, READY: self._ready, OPENAPI: self._openapi}
        elif _has_own(self._only, PIPELINES):
            self._answers.clear()
        self._own = _layers(self._answer, self._deployments)
        self.states: dict[str, Mapping[str, object]] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._only is not None and not scope["path"].endswith(PIPELINES):
            return self._only.asgi_app(scope, receive, send)
        path = local_path(scope)
        if path in self._answers:
            return self._own(scope, receive, send)
        if self._only is not None:
            return self._only.asgi_app(scope, receive, send)
        prefix = path[: path.find("/", 1)] if path.find("/", 1) > 0 else path
        deployment = self._mounts.get(prefix)
        if deployment is None:
            return self._own(scope, receive, send)
        mounted = child_scope(scope, prefix, path[len(prefix) :])
        state = self.states.get(deployment.name)
        if state:
            mounted["state"] = {**scope.get("state", {}), **state}
        return deployment.asgi_app(mounted, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answers.get(exchange_of(scope).path)
        if answer is None or scope["type"] != "http":
            raise NotFoundError
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowedError(["GET", "HEAD"])
        await respond(send, 200, JSON, to_json(await answer(scope)))

    async def _pipelines(self, scope: Scope) -> Mapping[str, object]:
        root = scope.get("root_path", "")
        return {"pipelines": [_entry(deployment, root + prefix) for prefix, deployment in self._mounts.items()]}

    async def _health(self, scope: Scope) -> Mapping[str, object]:
        reasons = [await deployment.service.health() for deployment in self._deployments]
        _refuse_unless_all([reason is None for reason in reasons], "healthy")
        return {"status": "healthy"}

    async def _ready(self, scope: Scope) -> Mapping[str, object]:
        _refuse_unless_all([deployment.lifecycle.ready for deployment in self._deployments], "ready")
        return {"status": "ready"}

    async def _openapi(self, scope: Scope) -> Mapping[str, object]:
        return openapi_document(
            title=", ".join(deployment.name for deployment in self._deployments),
            description="Several pipelines, each under its name with a document of its own.",
            version="0.1.0",
            endpoints=[
                Endpoint(f"/{name}", "GET", self._answer, name, f"/{name}" not in _OPEN, operation)
                for name, operation in operations.index_operations().items()
            ],
            has_keys=any(deployment.auth_keys for deployment in self._deployments),
        ) | {"servers": [{"url": "/" + scope.get("root_path", "").strip("/")}]}


def _refuse_unless_all(verdicts: Sequence[bool], word: str) -> None:
    if not all(verdicts):
        raise UnavailableError(f"{verdicts.count(False)} of {len(verdicts)} pipelines are not {word}.")


def _entry(deployment: Indexed, prefix: str) -> dict[str, object]:
    paths = built_in_paths(deployment.settings)
    return {
        "name": deployment.name,
        "deployment_id": deployment.service.deployment.id,
        "url": f"{prefix}{deployment.settings.root_url_path}/",
        "invoke_url": prefix + paths["invoke_url_path"] if "invoke_url_path" in paths else None,
        "docs_url": prefix + paths["docs_url_path"] if "docs_url_path" in paths else None,
        "auth_enabled": bool(deployment.auth_keys),
        "description": deployment.settings.app_description or deployment.pipeline.description,
    }


def _has_own(deployment: Indexed, path: str) -> bool:
    """True when a custom endpoint of the deployment's answers at `path`: it replaces ours."""
    settings = deployment.settings
    return any(f"{settings.root_url_path}{endpoint.path}" == path for endpoint in settings.custom_endpoints)


# The seam to the middleware: which layers the index's own answers pass through.


def _layers(app: ASGIApp, deployments: Sequence[Indexed]) -> ASGIApp:
    settings = [deployment.settings for deployment in deployments]
    keys = tuple(dict.fromkeys(key for deployment in deployments for key in deployment.auth_keys))
    checks: list[Check] = [
        Limits(
            max_header_count=max(each.max_header_count for each in settings),
            max_header_size=max(each.max_header_size for each in settings),
            max_body_size=max(each.max_request_body_size for each in settings),
        ).check
    ]
    if keys:
        checks.append(Auth(keys=keys, open_list=_OpenPaths()).check)
    # Requests of the index belong to no deployment: they are counted in none, and never in the way of a drain.
    lifecycle = Lifecycle(nullcontext, lambda _: None)
    return Application(ErrorBoundaryMiddleware(app, checks), _common(settings), lifecycle, Metrics("index"))


class _OpenPaths:
    def is_open(self, scope: Scope, exchange: Exchange) -> bool:
        return exchange.path in _OPEN

    def file(self, scope: Scope, exchange: Exchange) -> ASGIApp | None:
        return None


def _common(settings: Sequence[DeploymentSettings]) -> DeploymentSettings:
    """Settings with the security headers that all deployments agree on; the defaults when they do not agree."""
    first = settings[0]
    fields = ("secure_headers", "include_default_middleware")
    agreed = all(getattr(each, name) == getattr(first, name) for each in settings for name in fields)
    return first if agreed else DeploymentSettings()
