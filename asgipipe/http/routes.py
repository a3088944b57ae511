"""The table of everything a deployment serves: what is open, what a path allows, and the dictionary of the short way."""

import re
from collections.abc import Iterable

from starlette.routing import compile_path

from asgipipe.http.dashboard import Dashboard
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.exchange import Exchange
from asgipipe.http.types import ASGIApp, Scope

Table = dict[str, dict[str, ASGIApp]]
_READING = ("GET", "HEAD")


class Routes:
    """`endpoints` are built-in and custom ones; `open_prefixes` the paths of native endpoints that need no key.

    `dashboard_root` is the path in front of the dashboard's files.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        open_prefixes: Iterable[str] = (),
        dashboard: Dashboard | None = None,
        dashboard_root: str = "",
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.dashboard = dashboard
        self._dashboard_root = dashboard_root
        self._open_prefixes = tuple(open_prefixes)
        self._exact: dict[tuple[str, str], Endpoint] = {}
        self._templates: list[tuple[re.Pattern[str], Endpoint]] = []
        for endpoint in self.endpoints:
            if "{" in endpoint.path:
                self._templates.append((compile_path(endpoint.path)[0], endpoint))
            else:
                self._exact[endpoint.method, endpoint.path] = endpoint

    def table(self, names: Iterable[str]) -> Table:
        """Return path -> method -> application for the endpoints of these names; HEAD comes with GET."""
        wanted = frozenset(names)
        table: Table = {}
        for endpoint in self._exact.values():
            if endpoint.name in wanted:
                methods = table.setdefault(endpoint.path, {})
                methods[endpoint.method] = endpoint.app
                if endpoint.method == "GET":
                    methods.setdefault("HEAD", endpoint.app)
        return table

    def is_open(self, scope: Scope, exchange: Exchange) -> bool:
        """True when the route needs no key: its method and path are on the open list."""
        path = exchange.path
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._open_prefixes):
            return True
        if scope["type"] != "http":
            return False
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        endpoint = self._find(method, path)
        return endpoint is not None and not endpoint.auth_required

    def file(self, scope: Scope, exchange: Exchange) -> ASGIApp | None:
        """Return the dashboard's file for a GET or HEAD, if there is one and no endpoint has its path."""
        root, path = self._dashboard_root, exchange.path
        if self.dashboard is None or scope["method"] not in _READING or not path.startswith(f"{root}/"):
            return None
        if self.allowed(path):
            return None
        return self.dashboard.lookup(path[len(root) :], exchange.headers.get(b"accept", b""))

    def allowed(self, path: str) -> set[str]:
        """Return the methods that are served at `path`; empty when nothing is."""
        methods = {method for method, exact in self._exact if exact == path}
        methods |= {endpoint.method for pattern, endpoint in self._templates if pattern.match(path)}
        return methods | {"HEAD"} if "GET" in methods else methods

    def _find(self, method: str, path: str) -> Endpoint | None:
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        for pattern, endpoint in self._templates:
            if endpoint.method == method and pattern.match(path):
                return endpoint
        return None
