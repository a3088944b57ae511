"""Rules and the map they are in: our own rows first, paths as they were sent, no redirects."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

from quart.routing import QuartMap, QuartRule
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import BadHost, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, MapAdapter, RequestRedirect, WebsocketMismatch
from werkzeug.routing import Rule as AnyRule

from asgipipe.http.endpoint import Endpoint, Socket
from asgipipe.http.exchange import exchange_of
from asgipipe.http.types import Scope

CONVERTER = "asgipipe"

Found = tuple[Endpoint, Mapping[str, str]]
Find = Callable[[str, str], Found | None]
"""Returns what answers a method at a path, with the values of the path's parameters."""


class AnyPath(BaseConverter):
    """All that follows; werkzeug's own takes neither nothing nor what begins with a slash."""

    part_isolating = False
    regex = r"(?s:.*?)"
    weight = 300


def rule_of(template: str) -> str:
    """Return a path with `{name}` and `{name:path}` as werkzeug writes it."""
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: f"<{CONVERTER + ':' if found[2] else ''}{found[1]}>", template)


class Rule(QuartRule):
    """`row` is the endpoint or WebSocket of ours that it stands for; `tapped` ones are answered by an ASGI application.

    `open` ones need no key.
    """

    def __init__(
        self, string: str, *args: Any, row: Endpoint | Socket | None = None, tapped: bool = False, **options: Any
    ) -> None:  # Any: whatever Quart gives its own rules
        super().__init__(string, *args, **options)
        self.row = row
        self.tapped = tapped
        self.open = False


def row_of(rule: AnyRule) -> Endpoint | Socket | None:
    """Return what a rule stands for. What an extension puts into the map itself need not be a rule of our kind."""
    return rule.row if isinstance(rule, Rule) else None


class ExactMap(QuartMap):
    """Finds our rows as the other app runners do, and the rest as werkzeug does.

    werkzeug drops slashes from the front of a path, redirects where one is missing at its end, and orders templates its
    own way; what answers must be what was found open.
    """

    find: Find = staticmethod(lambda method, path: None)  # the runner's, once there are routes

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: the arguments of werkzeug's Map
        super().__init__(*args, **options)
        self.merge_slashes = False
        self.converters[CONVERTER] = AnyPath
        self.rules_of_rows: dict[tuple[str, str], Rule] = {}

    def bind_to_request(
        self, request: BaseRequestWebsocket, subdomain: str | None, server_name: str | None
    ) -> MapAdapter:
        try:
            bound = super().bind_to_request(request, subdomain, server_name)
        except (BadHost, UnicodeError):  # a Host, or a query, that is no text: neither has a say in what answers
            bound = self.bind("localhost", request.root_path, subdomain, request.scheme, request.method, request.path)
        scope = cast(Scope, request.scope)
        adapter = ExactAdapter(
            self,
            bound.server_name,
            bound.script_name,
            bound.subdomain,
            bound.url_scheme,
            exchange_of(scope).path,
            bound.default_method,
            bound.query_args,
        )
        # werkzeug goes by the scheme, and that of an HTTP request is `ws` where its X-Forwarded-Proto says so.
        adapter.websocket = scope["type"] == "websocket"
        return adapter


class ExactAdapter(MapAdapter):
    map: ExactMap

    def match(  # type: ignore[override]  # of werkzeug's overloads Quart asks for one
        self,
        path_info: str | None = None,
        method: str | None = None,
        return_rule: Literal[False, True] = False,
        query_args: Mapping[str, Any] | str | None = None,
        websocket: bool | None = None,
    ) -> tuple[str | AnyRule, Mapping[str, Any]]:
        path = self.path_info if path_info is None else path_info
        found = None if self.websocket or websocket else self.map.find(method or self.default_method, path)
        if found is not None:
            endpoint, values = found
            rule = self.map.rules_of_rows[endpoint.method, endpoint.path]
            return (rule if return_rule else rule.endpoint), dict(values)
        if path.startswith("//"):
            raise NotFound
        try:
            return super().match(path_info, method, return_rule, query_args, websocket)
        except (MethodNotAllowed, WebsocketMismatch) as error:
            if self.websocket or isinstance(error, WebsocketMismatch):
                raise NotFound from None
            raise
        except RequestRedirect as redirect:
            if unquote(urlsplit(redirect.new_url).path).endswith(f"{path}/"):
                raise NotFound from None
            raise
