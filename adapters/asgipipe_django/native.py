"""Native endpoints: views, URL patterns, URL configurations and ASGI applications, added as they are."""

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, cast

from django.urls import URLPattern, URLResolver, include
from django.urls.resolvers import RegexPattern, RoutePattern
from django.views import View as ClassView

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.result import answering
from asgipipe.http.exchange import below
from asgipipe.http.types import ASGIApp
from asgipipe.pipelines.callables import name_of
from asgipipe.settings import EndpointSpec
from asgipipe_django.application import Pattern, view_of
from asgipipe_django.patterns import View, Whole, regex_of


def native_pattern(spec: EndpointSpec, native: object, root: str) -> Pattern:
    """Return the URL pattern for a native object; `root` is the path in front of all paths.

    A pattern whose own route begins with `spec.path` stays where it is, any other, and any URL configuration, is put
    below that path; a view is at the path, an ASGI application at it and below it. Raises DefinitionError for what is
    none of these.
    """
    path = f"{root}{spec.path.rstrip('/')}"
    if isinstance(native, URLPattern | URLResolver):
        _no_options(spec, "a URL pattern has its arguments already")
        return _below(root if _lies_below(native, spec.path.strip("/")) else path, [native])
    if isinstance(native, ModuleType | list | tuple):
        _no_options(spec, "a URL configuration takes none")
        return _included(path, native)
    if inspect.isclass(native) and issubclass(native, ClassView):
        raise DefinitionError(f"{native.__name__} is a class of views: give {native.__name__}.as_view()")
    options = _view_options(spec.extra_kwargs)
    app = _asgi(native)
    if app is not None:
        if options.pop("kwargs", None):
            raise DefinitionError("extra_kwargs: an ASGI application takes no 'kwargs'")
        return Whole(path, options.get("name"), view_of(app), app)
    return URLPattern(
        RegexPattern(f"^{regex_of(path)}\\Z", is_endpoint=True, name=options.get("name")),
        cast(View, native),
        options.get("kwargs"),
        options.get("name"),
    )


def _included(path: str, native: object) -> URLResolver:
    """Return the pattern for what Django's own `include` takes, or has returned."""
    if isinstance(native, tuple) and len(native) == 3:
        patterns, app_name, namespace = native
    else:
        has_name = isinstance(native, tuple) and len(native) == 2 and isinstance(native[1], str)
        given = native if has_name or isinstance(native, ModuleType) else list(cast("list[Pattern]", native))
        patterns, app_name, namespace = include(cast(Any, given))  # whatever Django takes
    return _below(path, patterns, app_name, namespace)


def _below(path: str, patterns: object, app_name: str | None = None, namespace: str | None = None) -> URLResolver:
    prefix = regex_of(path)
    regex = f"^{prefix}/" if prefix else "^"
    resolver = URLResolver(RegexPattern(regex), cast(Any, patterns), app_name=app_name, namespace=namespace)
    for pattern in resolver.url_patterns:
        if not isinstance(pattern, URLPattern | URLResolver):
            raise DefinitionError(f"{pattern!r} is none of the URL patterns that path() and re_path() return")
    return resolver


def _lies_below(native: Pattern, path: str) -> bool:
    route = str(native.pattern) if isinstance(native.pattern, RoutePattern) else None
    return route is not None and bool(path) and below(route, path) is not None


def _asgi(native: object) -> ASGIApp | None:
    """Return `native` if it is an ASGI application, None if it is a view."""
    app = answering(native)
    if app is not None:
        return app
    if not callable(native):
        raise DefinitionError(
            f"{native!r} is neither a view, a URL pattern, a URL configuration nor an ASGI application"
        )
    if _takes(native, 1):
        return None
    if _takes(native, 3):
        return cast(ASGIApp, native)
    raise DefinitionError(f"{name_of(native)} takes neither a request, as a view, nor (scope, receive, send)")


def _takes(function: Callable[..., object], count: int) -> bool:
    parameters = inspect.signature(function).parameters.values()
    needed = [
        one
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    # Beside the request a view may ask for what its path captures.
    return bool(parameters) and (
        len(needed) == count if count == 3 else not {"receive", "send"} & {one.name for one in needed}
    )


def _view_options(extra: Mapping[str, object]) -> dict[str, Any]:
    unknown = extra.keys() - {"name", "kwargs"}
    if unknown:
        raise DefinitionError(f"extra_kwargs: Django's path() takes 'name' and 'kwargs', not {min(unknown)!r}")
    return dict(extra)


def _no_options(spec: EndpointSpec, reason: str) -> None:
    if spec.extra_kwargs:
        raise DefinitionError(f"extra_kwargs have nowhere to go: {reason}")
