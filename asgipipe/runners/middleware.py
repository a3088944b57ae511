"""The user's own middleware, put around the dispatcher in its order."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp
from asgipipe.pipelines.callables import name_of
from asgipipe.runners.building import building
from asgipipe.settings import MiddlewareSpec
from asgipipe.settings.references import load
from asgipipe.settings.references import name as reference_name

Wrap = Callable[[ASGIApp], ASGIApp]


def in_order(specs: Iterable[MiddlewareSpec]) -> list[MiddlewareSpec]:
    """Return the specs from the outermost to the innermost; equal orders keep the order of the list."""
    return sorted(specs, key=lambda spec: spec.order)


def place_of(spec: MiddlewareSpec) -> str:
    """Return what names a middleware in an error."""
    return f"custom middleware {reference_name(spec.middleware)}"


def wrapped(app: ASGIApp, specs: Sequence[MiddlewareSpec]) -> ASGIApp:
    """Put the ASGI middleware of `specs`, outermost first, around `app`."""
    for spec in reversed(specs):
        with building(place_of(spec)):
            app = wrap_of(spec)(app)
    return app


def wrap_of(spec: MiddlewareSpec) -> Wrap:
    """Return what puts an ASGI middleware around an application: a class is called as `cls(app, **init_kwargs)`,
    once, a function as `function(app, scope, receive, send, **init_kwargs)`, for every request.

    Raises DefinitionError when it cannot be called so.
    """
    if spec.extra_kwargs:
        raise DefinitionError("extra_kwargs are for the framework, so for native middleware; use init_kwargs")
    loaded = load(spec.middleware)
    if not callable(loaded):
        raise DefinitionError(f"{loaded!r} is not callable")
    middleware: Callable[..., object] = loaded
    if inspect.isclass(loaded):
        _require(middleware, (None,), spec, "(app, **init_kwargs)")
        return lambda app: cast(ASGIApp, middleware(app, **spec.init_kwargs))
    _require(middleware, (None,) * 4, spec, "(app, scope, receive, send, **init_kwargs)")
    return lambda app: cast(ASGIApp, partial(middleware, app, **spec.init_kwargs))


def _require(middleware: Callable[..., object], arguments: tuple[None, ...], spec: MiddlewareSpec, shape: str) -> None:
    try:
        signature = inspect.signature(middleware)
    except ValueError:  # some builtins have none: the call will tell
        return
    try:
        signature.bind(*arguments, **spec.init_kwargs)
    except TypeError as error:
        raise DefinitionError(f"{name_of(middleware)} is called as {shape}: {error}") from None
