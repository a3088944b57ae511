"""What a user's callable is: the function in it, how that must be run, and what it is called.

Callables are looked at statically: no property, descriptor or `__getattr__` of the user's is called.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import FunctionType, MethodType
from typing import Protocol, TypeGuard, TypeVar

T = TypeVar("T")

MAX_WRAPPERS = 32


# Steps and pipelines


class StepLike(Protocol):
    """What the graph and the output names need to know of a step, or of a pipeline called inside another."""

    @property
    def name(self) -> str: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    @property
    def function(self) -> Callable[..., object]: ...


def is_step(found: object) -> TypeGuard[StepLike]:
    return _marked(found, "__asgipipe_step__")


def is_pipeline(found: object) -> TypeGuard[StepLike]:
    return _marked(found, "__asgipipe_pipeline__")


def is_node(found: object) -> TypeGuard[StepLike]:
    """Say whether calling `found` is a node of the graph."""
    return is_step(found) or is_pipeline(found)


def _marked(found: object, marker: str) -> bool:
    # The class Step carries the marker too, and is no step.
    return not is_a(found, type) and inspect.getattr_static(found, marker, False) is True


def is_a(found: object, kind: type[T]) -> TypeGuard[T]:
    """Do what `isinstance` does, without asking the object for its `__class__`: a lazy proxy would load itself."""
    return issubclass(type(found), kind)


# The functions inside


@dataclass(frozen=True, slots=True)
class Plain:
    """The function inside a callable, and the arguments its wrappers put in front (`self`, those of a partial)."""

    function: FunctionType
    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(default_factory=dict)


def plain_function(target: object) -> Plain | None:
    """Look through steps, pipelines, bound methods, partials, `functools.wraps` and objects with `__call__`.

    None for what has no Python function in it: classes, builtins, C functions.
    """
    functions = _functions(target)
    return functions[-1] if functions else None


def underlying(target: Callable[..., object]) -> Callable[..., object]:
    """Return the function that `plain_function` finds; for what has none, the routine that runs when it is called."""
    plain = plain_function(target)
    if plain is not None:
        return plain.function
    call: Callable[..., object] = type(target).__call__
    return target if inspect.isroutine(target) else call


def _functions(target: object) -> tuple[Plain, ...]:
    """Return the functions of a callable, from the one that runs first to the one that it is all about.

    None of them where the wrapping has no end.
    """
    found: list[Plain] = []
    arguments: tuple[object, ...] = ()
    keywords: dict[str, object] = {}
    for _ in range(MAX_WRAPPERS):
        if is_a(target, functools.partial):
            arguments = (*target.args, *arguments)
            keywords = {**target.keywords, **keywords}
        elif is_a(target, MethodType):
            arguments = (target.__self__, *arguments)
        elif is_a(target, FunctionType):
            found.append(Plain(target, arguments, keywords))
        elif not is_node(target) and is_a(call := _call_method(target), FunctionType):
            found.append(Plain(call, (target, *arguments), keywords))
        target = _wrapped(target)
        if target is None:
            return tuple(found)
    return ()


def _wrapped(target: object) -> object:
    """Return what `target` hands its call on to, None where that cannot be seen."""
    if is_node(target):
        return target.function
    if is_a(target, functools.partial):
        return target.func
    if is_a(target, MethodType) or is_a(target, staticmethod):
        return target.__func__
    wrapped = inspect.getattr_static(target, "__wrapped__", None)
    return wrapped if callable(wrapped) else None


def _call_method(target: object) -> object:
    return None if is_a(target, type) else inspect.getattr_static(type(target), "__call__", None)


# How it is run


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


def kind_of(target: Callable[..., object]) -> Kind:
    """Return how `target` must be run.

    The code that runs first decides; a plain function made with `functools.wraps` is taken to return what the function
    inside it returns: a coroutine, or a generator.
    """
    kinds = (_own_kind(plain.function) for plain in _functions(target))
    return next((kind for kind in kinds if kind is not Kind.SYNC), Kind.SYNC)


def kind_in_run(target: Callable[..., object]) -> Kind:
    """Return how `target` must be run inside a run, where a step collects the items it streams."""
    kind = kind_of(target)
    if not is_step(target):
        return kind
    return Kind.ASYNC if kind.is_async else Kind.SYNC


def _own_kind(function: FunctionType) -> Kind:
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(function):
        return Kind.GENERATOR
    return Kind.SYNC


# What it is called


def name_of(target: Callable[..., object]) -> str:
    """Return the name a user would call `target` by: `predict`, or `Model` for an object of class Model."""
    while is_a(target, functools.partial):
        target = target.func
    if is_node(target):
        return target.name
    if inspect.isroutine(target) or inspect.isclass(target):
        return target.__name__
    return type(target).__name__


def doc_of(target: Callable[..., object]) -> str:
    """Return the docstring of the function in `target`, else that of an object's class."""
    code = underlying(target)
    own = inspect.getdoc(code) if code.__doc__ and is_a(code, FunctionType) else None
    return own or inspect.getdoc(target if inspect.isroutine(target) else type(target)) or ""


def describe(target: object) -> str:
    """Name a callable for an error message: `package.module.function`."""
    plain = plain_function(target)
    named = target if plain is None else plain.function
    name = getattr(named, "__qualname__", None) or type(named).__qualname__
    module = getattr(named, "__module__", None)
    return f"{module}.{name}" if module else str(name)
