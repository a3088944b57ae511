"""What kind of callable a user gave: it decides how the callable is run."""

import functools
import inspect
from collections.abc import Callable
from enum import Enum


class Kind(Enum):
    SYNC = "sync"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"

    @property
    def is_async(self) -> bool:
        return self in (Kind.ASYNC, Kind.ASYNC_GENERATOR)

    @property
    def streams(self) -> bool:
        return self in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)


def underlying(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function whose code runs: of a partial, a bound method, a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return inspect.unwrap(function)
    call: Callable[..., object] = type(function).__call__
    return call


def kind_of(function: Callable[..., object]) -> Kind:
    """Return how `function` must be run."""
    code = underlying(function)
    if inspect.isasyncgenfunction(code):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(code):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(code):
        return Kind.GENERATOR
    return Kind.SYNC


def name_of(function: Callable[..., object]) -> str:
    """Return the name a user would call `function` by: `predict`, or `Model` for an object of class Model."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function.__name__
    return type(function).__name__
