"""Objects of Quart's, put in their place: blueprints, views, ASGI applications, and functions around requests."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import quart
from quart import Blueprint
from quart.views import View

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.handler import is_asgi
from asgipipe.http.exchange import exchange_of
from asgipipe.http.mounting import child_scope
from asgipipe.http.types import ASGIApp, Scope
from asgipipe.pipelines.callables import name_of
from asgipipe.settings import EndpointSpec
from asgipipe_quart.application import DeploymentQuart
from asgipipe_quart.routing import CONVERTER, Rule, rule_of
from asgipipe_quart.views import answered, connected

Options = dict[str, Any]  # any keyword arguments of Quart's
Function = Callable[..., object]


def add_native(app: DeploymentQuart, spec: EndpointSpec, native: object, root: str) -> None:
    """Add a native object; `root` is the path in front of all paths.

    A rule of a blueprint's that begins with `spec.path` stays where it is, any other, and any view or application, is
    put at or below that. Raises DefinitionError for what is none of them.
    """
    path = spec.path.rstrip("/")
    options: Options = dict(spec.extra_kwargs)
    if isinstance(native, Blueprint):
        own = options.pop("url_prefix", native.url_prefix) or ""
        prefix = f"{root}{rule_of(path)}{own}"
        app.place(root, rule_of(path), lambda: app.register_blueprint(native, url_prefix=prefix, **options))
    elif isinstance(native, type) and issubclass(native, View):
        name = options.pop("endpoint", None) or app.free_name(native.__name__)
        app.add_url_rule(rule_of(root + path) or "/", name, native.as_view(name), **options)
    elif isinstance(native, type) or not callable(native):
        raise DefinitionError(f"{native!r} is neither a blueprint or view of Quart's nor an ASGI application")
    elif is_asgi(native):
        _mount(app, rule_of(root + path), cast(ASGIApp, native), options)
    else:
        _add_view(app, spec, rule_of(root + path) or "/", native, options)


def _add_view(app: DeploymentQuart, spec: EndpointSpec, rule: str, view: Function, options: Options) -> None:
    name = options.pop("endpoint", None) or app.free_name(name_of(view))
    if "method" in spec.model_fields_set and not options.get("websocket"):
        options.setdefault("methods", [spec.method.value])
    app.add_url_rule(rule, name, view, **options)


def _mount(app: DeploymentQuart, path: str, mounted: ASGIApp, options: Options) -> None:
    """Put an application at `path` and everything below it, for all methods and for WebSockets."""

    async def view(**values: str) -> Any:  # a response of Quart's
        return await answered(mounted, _mounted_scope(cast(Scope, quart.request.scope), values))

    async def socket(**values: str) -> None:
        await connected(mounted, _mounted_scope(cast(Scope, quart.websocket.scope), values))

    given = options.pop("endpoint", None) or name_of(mounted)
    functions: dict[bool, Any] = {False: view, True: socket}  # Quart's types forget that the latter answers nothing
    for websocket, function in functions.items():
        name = app.free_name(given)
        app.view_functions[name] = function
        for string in (path or "/", f"{path}/<{CONVERTER}:{_REST}>"):
            # Not by `add_url_rule`, which makes it one for GET where no methods are given.
            app.url_map.add(Rule(string, endpoint=name, websocket=websocket, tapped=True, **options))


def _mounted_scope(scope: Scope, values: dict[str, str]) -> Scope:
    path = exchange_of(scope).path
    rest = values.pop(_REST, None)
    local = "" if rest is None else f"/{rest}"
    return {**child_scope(scope, path.removesuffix(local), local), "path_params": values}


_REST = "asgipipe_rest"


class AroundRequests:
    """A function that Quart calls before requests, when it takes nothing, or after them, when it takes the response.

    Raises DefinitionError for one that takes something else.
    """

    def __init__(self, function: Function, kwargs: Mapping[str, object]) -> None:
        self._function = partial(function, **kwargs) if kwargs else function
        self._before = _takes(function, 0, kwargs)
        if not self._before and not _takes(function, 1, kwargs):
            raise DefinitionError(
                f"{name_of(function)} is called as (**init_kwargs) before requests, or as (response, **init_kwargs)"
                " after them"
            )

    def add_outermost(self, app: DeploymentQuart) -> None:
        # Quart calls the former in the order of their list, the latter against it.
        functions: dict[Any, list[Any]] = app.before_request_funcs if self._before else app.after_request_funcs
        functions[None].insert(0, self._function)


def _takes(function: Function, count: int, kwargs: Mapping[str, object]) -> bool:
    try:
        inspect.signature(function).bind(*(None,) * count, **kwargs)
    except TypeError:
        return False
    return True


def require_class(middleware: type, kwargs: Mapping[str, object]) -> None:
    """Raise DefinitionError unless `middleware` can be called as `(app, **kwargs)`."""
    if not _takes(middleware, 1, kwargs):
        raise DefinitionError(f"{name_of(middleware)} is called as (app, **init_kwargs), which it does not take")
