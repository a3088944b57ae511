"""From what an EndpointSpec names to the handler that is called."""

import inspect
from collections.abc import Callable, Mapping
from enum import Enum

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.handler import label_of, signature_of
from asgipipe.pipelines.callables import kind_of
from asgipipe.pipelines.execution import summary_of


class HandlerKind(Enum):
    """How a handler comes about.

    A class is instantiated, with `app_runner` where it takes one, and its instance is called. A function with a
    parameter `app_runner` is called once and returns the handler. Anything else is the handler.
    """

    DIRECT = "direct"
    BUILDER_CLASS = "builder class"
    BUILDER_FUNCTION = "builder function"


def classify(handler: object) -> HandlerKind:
    """Return the kind of `handler`. Raises DefinitionError for what cannot be called, and for an async builder."""
    label = label_of(handler)
    if not callable(handler):
        raise DefinitionError(f"handler {label}: {type(handler).__name__} is not callable")
    if inspect.isclass(handler):
        return HandlerKind.BUILDER_CLASS
    if "app_runner" not in signature_of(handler).parameters:
        return HandlerKind.DIRECT
    kind = kind_of(handler)
    if kind.is_async or kind.streams:
        raise DefinitionError(
            f"handler {label}: a builder (it has a parameter 'app_runner') is a plain function, not {kind.value}; "
            "let it return the async handler"
        )
    return HandlerKind.BUILDER_FUNCTION


def build_handler(handler: object, app_runner: object, init_kwargs: Mapping[str, object]) -> Callable[..., object]:
    """Return the callable that answers requests, built where `handler` is a builder.

    Raises DefinitionError when `init_kwargs` do not fit, when the builder raises, and when it returns no callable.
    """
    kind = classify(handler)
    assert callable(handler)
    label = label_of(handler)
    if kind is HandlerKind.DIRECT:
        if init_kwargs:
            raise DefinitionError(
                f"handler {label}: init_kwargs are for builders: a class, or a function with a parameter 'app_runner'"
            )
        return handler
    arguments = _arguments(handler, label, app_runner, init_kwargs)
    built = _build(handler, label, arguments)
    if inspect.isawaitable(built):
        _discard(built)
        raise DefinitionError(f"handler {label}: the {kind.value} returned an awaitable; a builder is not async")
    if not callable(built):
        fact = f"{_article(built)} cannot be called"
        raise DefinitionError(f"handler {label}: a {kind.value} makes what is called for a request, but {fact}")
    return built


def _arguments(
    builder: Callable[..., object], label: str, app_runner: object, init_kwargs: Mapping[str, object]
) -> dict[str, object]:
    signature = signature_of(builder)
    arguments = dict(init_kwargs)
    if "app_runner" in signature.parameters:
        if "app_runner" in arguments:
            raise DefinitionError(f"handler {label}: 'app_runner' is given by us; take it out of init_kwargs")
        arguments["app_runner"] = app_runner
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise DefinitionError(f"handler {label}: init_kwargs do not fit {signature}: {error}") from error
    return arguments


def _build(builder: Callable[..., object], label: str, arguments: Mapping[str, object]) -> object:
    try:
        return builder(**arguments)
    except Exception as error:  # boundary: a builder is user code
        raise DefinitionError(f"handler {label}: building it raised {summary_of(error)}") from error


def _discard(awaitable: object) -> None:
    """Close a coroutine that nobody will await, so that Python does not warn about it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def _article(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
