"""Routes: ours, and the native ones put in their place."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, cast

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute

from asgipipe.errors import DefinitionError
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.exchange import below
from asgipipe.http.routes import path_pattern
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.callables import name_of
from asgipipe.settings import EndpointSpec

Options = dict[str, Any]  # any keyword arguments of a Starlette route


class OwnRoute(Route):
    """A route of ours, which the table knows; `options` are further arguments of Starlette's Route."""

    def __init__(self, endpoint: Endpoint, options: Mapping[str, object]) -> None:
        if "methods" in options:
            raise DefinitionError("extra_kwargs: the method is given by the endpoint's own field 'method'")
        all_options: Options = {"name": endpoint.name, "include_in_schema": False, **options}
        super().__init__(endpoint.path, _Row(endpoint.app), methods=[endpoint.method], **all_options)
        self.path_regex = path_pattern(endpoint.path)


class OwnSocketRoute(WebSocketRoute):
    """A WebSocket of ours, which the table knows."""

    def __init__(self, socket: Socket) -> None:
        super().__init__(socket.path, _Row(socket.app), name=socket.name)
        self.path_regex = path_pattern(socket.path)


class _Row:
    """An ASGI application that Starlette takes for one: of a function it believes that it takes a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class Whole(Mount):
    """A mount that answers its own path too, not only what is below it, be there line breaks in it."""

    def __init__(self, path: str, **options: Any) -> None:  # those of Mount
        super().__init__(path, **options)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE:
            match, child = super().matches({**scope, "path": f"{scope['path']}/"})
        return match, child


class Below(Mount):
    """A native route under a path; unlike a mount it leaves to others what the route does not match."""

    def __init__(self, path: str, route: BaseRoute) -> None:
        super().__init__(path, app=Router([route], redirect_slashes=False))
        self._route = route

    @property
    def methods(self) -> set[str] | None:
        return getattr(self._route, "methods", None)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE:
            return match, child
        return self._route.matches({**scope, **child})[0], child


def native_route(spec: EndpointSpec, native: object, root: str) -> BaseRoute:
    """Return the route for a native object; `root` is the path in front of all paths.

    A route whose own path begins with `spec.path` stays where it is, any other, and any application, is put below that.
    Raises DefinitionError for what is neither.
    """
    path = f"{root}{spec.path.rstrip('/')}"
    if isinstance(native, BaseRoute):
        prefix = prefix_for(spec, native, root)
        return Below(prefix, native) if prefix else native
    options: Options = dict(spec.extra_kwargs)
    if isinstance(native, type) and issubclass(native, HTTPEndpoint):
        return Route(path or "/", native, **options)
    if isinstance(native, type) and issubclass(native, WebSocketEndpoint):
        return WebSocketRoute(path or "/", native, **options)
    if isinstance(native, Starlette | Router):
        return Mount(path, app=native, **options)
    return Whole(path, app=_asgi(native), **options)


def prefix_for(spec: EndpointSpec, route: BaseRoute, root: str) -> str:
    """Return the path to put in front of that of a native route. Raises DefinitionError for arguments beside it."""
    if spec.extra_kwargs:
        raise DefinitionError("extra_kwargs have nowhere to go: a route has its arguments already")
    path = spec.path.rstrip("/")
    return root if _lies_below(route, path) else f"{root}{path}"


def _lies_below(route: BaseRoute, path: str) -> bool:
    own = getattr(route, "path", None)
    return isinstance(own, str) and below(own, path) is not None


def _asgi(native: object) -> ASGIApp:
    if not callable(native):
        raise DefinitionError(f"{native!r} is neither a Starlette route nor an ASGI application")
    try:
        inspect.signature(native).bind(None, None, None)
    except TypeError:
        raise DefinitionError(
            f"{name_of(native)} is not an ASGI application, which takes (scope, receive, send); for a handler that"
            " takes a request leave 'native' out"
        ) from None
    except ValueError:  # some builtins have no signature: the first request will tell
        pass
    return cast(ASGIApp, native)
