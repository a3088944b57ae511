"""Native middleware: classes and functions that are given `get_response`, as in Django's MIDDLEWARE."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import kind_of, name_of

GetResponse = Callable[[HttpRequest], Any]  # the response, or an awaitable of it


class Factory:
    """A middleware with its arguments; it can do what the middleware says that it can, as Django reads it."""

    def __init__(self, middleware: Callable[..., object], kwargs: Mapping[str, object]) -> None:
        self.label = name_of(middleware)
        self.sync_capable: bool = getattr(middleware, "sync_capable", True)
        self.async_capable: bool = getattr(middleware, "async_capable", False)
        self._middleware = middleware
        self._kwargs = kwargs

    def __call__(self, get_response: GetResponse) -> Any:  # whatever the user's code makes
        return self._middleware(get_response, **self._kwargs)


def native_middleware(middleware: object, kwargs: Mapping[str, object]) -> Factory:
    """Return the factory for a class or a function `(get_response, **kwargs)`. Raises DefinitionError for others."""
    if not callable(middleware):
        raise DefinitionError(f"{middleware!r} is neither a class nor a function of Django's kind")
    try:
        inspect.signature(middleware).bind(None, **kwargs)
    except TypeError as error:
        raise DefinitionError(f"{name_of(middleware)} is called as (get_response, **init_kwargs): {error}") from None
    except ValueError:  # some builtins have no signature: the call will tell
        pass
    factory = Factory(middleware, kwargs)
    if not (factory.sync_capable or factory.async_capable):
        raise DefinitionError(f"{factory.label} says that it is neither sync_capable nor async_capable")
    if not isinstance(middleware, type) and kind_of(middleware).is_async:
        raise DefinitionError(f"{factory.label} is called while Django is set up, so it cannot be 'async def'")
    return factory
