"""URL patterns for what we serve: rows of the table, and whole ASGI applications."""

import re
from collections.abc import Callable
from typing import Any

from django.urls import URLPattern
from django.urls.resolvers import RegexPattern

from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.types import ASGIApp

View = Callable[..., Any]  # a view of Django's, sync or async, with the arguments that its pattern captures

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
BELOW = "asgipipe_below"


def regex_of(template: str) -> str:
    """Return the regular expression for a path with `{name}` and `{name:path}`, without the slash Django takes off.

    The table's own meaning of both, which differs from Django's `<path:name>` in that the latter is never empty.
    """
    regex, end = "", 0
    for found in _PARAMETER.finditer(template):
        regex += re.escape(template[end : found.start()])
        regex += f"(?P<{found[1]}>{'.*' if found[2] else '[^/]+'})"
        end = found.end()
    return (regex + re.escape(template[end:])).removeprefix("/")


def url_name(name: str) -> str:
    """Return the name of an endpoint as Django takes it, where a colon separates namespaces."""
    return name.replace(":", "-")


def names_in(template: str) -> frozenset[str]:
    """Return the names of the parameters in a path."""
    return frozenset(found[1] for found in _PARAMETER.finditer(template))


class Row(URLPattern):
    """One row of ours. `app` answers where nothing of Django's has to see the request, else `view`."""

    def __init__(self, endpoint: Endpoint, name: str, view: View, app: ASGIApp | None) -> None:
        super().__init__(RegexPattern(f"^{regex_of(endpoint.path)}\\Z", name=name, is_endpoint=True), view, name=name)
        self.method = endpoint.method
        self.app = app


class SocketRow(URLPattern):
    """A WebSocket of ours, of which Django knows nothing: `view` is for requests that take another way to it."""

    def __init__(self, socket: Socket, view: View) -> None:
        name = url_name(socket.name)
        super().__init__(RegexPattern(f"^{regex_of(socket.path)}\\Z", name=name, is_endpoint=True), view, name=name)
        self.app = socket.app


class Whole(URLPattern):
    """An ASGI application at a path and everything below it."""

    def __init__(self, path: str, name: str | None, view: View, app: ASGIApp) -> None:
        prefix = regex_of(path.rstrip("/"))
        below = "(?:/.*)?" if prefix else ".*"
        regex = f"^{prefix}(?P<{BELOW}>{below})\\Z"
        super().__init__(RegexPattern(regex, name=name, is_endpoint=True), view, name=name)
        self.app = app
