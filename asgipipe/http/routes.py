"""The table of everything a deployment serves: what is open, what a path allows, what answers on the short way."""

import re
from collections.abc import Callable, Iterable, Mapping

from asgipipe.http.dashboard import Dashboard
from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.exchange import Exchange
from asgipipe.http.types import ASGIApp, Scope

Table = dict[str, dict[str, ASGIApp]]
KeyNeeded = Callable[[Scope], bool | None]
"""Says whether the framework's own route that would answer needs the key; None when there is no such route."""

_READING = ("GET", "HEAD")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_VALUES = {
    "str": "[^/]+",
    "path": ".*",
    "int": "[0-9]+",
    "float": r"[0-9]+(\.[0-9]+)?",
    "uuid": "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
}


class Routes:
    """`endpoints` are built-in and custom ones; `key_needed` knows the routes that are the framework's own.

    `sockets` have exact paths. `dashboard_root` is the path in front of the dashboard's files. `self.endpoints` is in
    the order in which paths are tried, on every framework: what answers must be what was found open.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        sockets: Iterable[Socket] = (),
        key_needed: KeyNeeded = lambda _: None,
        dashboard: Dashboard | None = None,
        dashboard_root: str = "",
    ) -> None:
        self.endpoints = tuple(sorted(endpoints, key=lambda endpoint: precedence(endpoint.path)))
        self.sockets = {socket.path: socket for socket in sockets}
        self.dashboard = dashboard
        self._dashboard_root = dashboard_root
        self._key_needed = key_needed
        self._exact: dict[tuple[str, str], Endpoint] = {}
        self._templates: list[tuple[re.Pattern[str], Endpoint]] = []
        for endpoint in self.endpoints:
            if "{" in endpoint.path:
                self._templates.append((path_pattern(endpoint.path), endpoint))
            else:
                self._exact[endpoint.method, endpoint.path] = endpoint

    def is_open(self, scope: Scope, exchange: Exchange) -> bool:
        """True when what answers needs no key: an endpoint on the open list, or a native one that was declared open."""
        needed = self._key_needed(scope)
        if scope["type"] == "http":
            found = self.find(scope["method"], exchange.path)
            if found is not None:
                # An extension may have put a route of its own before an endpoint that is open.
                return not found[0].auth_required and needed is not True
        elif exchange.path in self.sockets:
            return False
        return needed is False

    def file(self, scope: Scope, exchange: Exchange) -> ASGIApp | None:
        """Return the dashboard's file for a GET or HEAD, if there is one and nothing else has its path."""
        root, path = self._dashboard_root, exchange.path
        if self.dashboard is None or scope["method"] not in _READING or not path.startswith(f"{root}/"):
            return None
        if self.allowed(path) or self._key_needed(scope) is not None:
            return None
        return self.dashboard.lookup(path[len(root) :], exchange.headers.get(b"accept", b""))

    def allowed(self, path: str) -> set[str]:
        """Return the methods that our endpoints answer at `path`; empty when there is none."""
        methods = {method for method, exact in self._exact if exact == path}
        methods |= {endpoint.method for pattern, endpoint in self._templates if pattern.match(path)}
        return methods | {"HEAD"} if "GET" in methods else methods

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """Return what answers `method` at `path`, and the values of its parameters."""
        method = "GET" if method == "HEAD" else method
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        for pattern, endpoint in self._templates:
            match = pattern.match(path) if endpoint.method == method else None
            if match is not None:
                return endpoint, match.groupdict()
        return None


def table(applications: Mapping[tuple[str, str], ASGIApp]) -> Table:
    """Return path -> method -> application for applications by method and path; HEAD comes with GET.

    The paths hold no templates.
    """
    rows: Table = {}
    for (method, path), app in applications.items():
        methods = rows.setdefault(path, {})
        methods[method] = app
        if method == "GET":
            methods["HEAD"] = app
    return rows


class Templates:
    """Finds the application for a path with parameters, where `applications` has one by method and path.

    `routes` decide what answers, as they do for the framework; but they are asked only about paths that are one or two
    segments longer than what such a path begins with, so that others cost two look-ups.
    """

    def __init__(self, routes: Routes, applications: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._find = routes.find
        self._applications = applications
        self._beginnings = frozenset(path.partition("/{")[0] for _, path in applications)

    def find(self, method: str, path: str) -> tuple[ASGIApp, dict[str, str]] | None:
        """Return the application and the values of the parameters."""
        parent = path.rpartition("/")[0]
        if parent not in self._beginnings and parent.rpartition("/")[0] not in self._beginnings:
            return None
        found = self._find(method, path)
        if found is None:
            return None
        endpoint, values = found
        app = self._applications.get((endpoint.method, endpoint.path))
        return None if app is None else (app, values)


def path_pattern(template: str) -> re.Pattern[str]:
    """Return the pattern of a path with `{name}` and `{name:path}`, read as Starlette's converters read them.

    Its own pattern lets a line break follow the end, and brings all of Starlette, which other frameworks do not need.
    """
    text, *parameters = _PARAMETER.split(template)
    pattern = "^" + re.escape(text)
    for name, kind, text in zip(parameters[::3], parameters[1::3], parameters[2::3], strict=True):
        pattern += f"(?P<{name}>{_VALUES[kind or 'str']})" + re.escape(text)
    return re.compile(pattern + r"\Z")


def precedence(path: str) -> tuple[tuple[int, int], ...]:
    """Return a key that sorts paths by how exact they are, so that `/items/new` comes before `/items/{name}`.

    Segment by segment, literal text comes before `{name}`, and that before `{name:path}`.
    """
    return tuple(_exactness(segment) for segment in path.split("/")) if "{" in path else ()


def _exactness(segment: str) -> tuple[int, int]:
    if "{" not in segment:
        return 0, 0
    literal = re.sub(r"\{[^}]*\}", "", segment)
    return (2 if ":path}" in segment else 1), -len(literal)
