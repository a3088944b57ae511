"""The user's own middleware, put around the dispatcher in its order."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp
from asgipipe.pipelines.callables import name_of
from asgipipe.settings import MiddlewareSpec
from asgipipe.settings.references import load


def in_order(specs: Sequence[MiddlewareSpec]) -> list[MiddlewareSpec]:
    """Return the specs from the outermost to the innermost; equal orders keep the order of the list."""
    return sorted(specs, key=lambda spec: spec.order)


def wrapped(app: ASGIApp, specs: Sequence[MiddlewareSpec]) -> ASGIApp:
    """Put the ASGI middleware of `specs` around `app`: classes as `cls(app, **init_kwargs)`, functions as
    `function(app, scope, receive, send, **init_kwargs)`."""
    for spec in reversed(in_order(specs)):
        app = _wrap(app, spec)
    return app


def _wrap(app: ASGIApp, spec: MiddlewareSpec) -> ASGIApp:
    middleware = cast(Callable[..., object], load(spec.middleware))
    if not callable(middleware):
        raise DefinitionError(f"middleware {spec.middleware!r} is not callable")
    arguments = (app,) if inspect.isclass(middleware) else (app, {}, None, None)
    try:
        inspect.signature(middleware).bind(*arguments, **spec.init_kwargs)
    except TypeError as error:
        shape = "(app, **init_kwargs)" if inspect.isclass(middleware) else "(app, scope, receive, send, **init_kwargs)"
        raise DefinitionError(f"middleware {name_of(middleware)} is called as {shape}: {error}") from None
    if inspect.isclass(middleware):
        return cast(ASGIApp, middleware(app, **spec.init_kwargs))
    return cast(ASGIApp, partial(middleware, app, **spec.init_kwargs))
