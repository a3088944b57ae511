"""What a handler's signature says."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Annotated

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import Kind, kind_of, underlying

EMPTY = inspect.Parameter.empty

_ASGI_PARAMETERS = ["scope", "receive", "send"]


@dataclass(frozen=True, slots=True)
class Handler:
    """A callable and its signature.

    `parameters` are those a request can fill: arguments that a partial has bound are not among them. `hints` holds the
    annotations, resolved; `returned` is EMPTY where nothing is annotated. `label` names the handler in messages.
    """

    function: Callable[..., object]
    label: str
    kind: Kind
    parameters: tuple[inspect.Parameter, ...]
    hints: Mapping[str, object]
    returned: object
    doc: str


def read_handler(function: object) -> Handler:
    """Read the signature of `function`. Raises DefinitionError when it has none, or its annotations lead nowhere."""
    label = label_of(function)
    if not callable(function):
        raise DefinitionError(f"handler {label}: {type(function).__name__} is not callable")
    parameters = signature_of(function).parameters
    hints = _hints(function, label)
    bound = function.keywords if isinstance(function, partial) else {}
    return Handler(
        function=function,
        label=label,
        kind=kind_of(function),
        parameters=tuple(parameter for name, parameter in parameters.items() if name not in bound),
        hints=hints,
        returned=hints.get("return", EMPTY),
        doc=_doc(function),
    )


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """Return the signature of a callable. Raises DefinitionError when it has none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"handler {label_of(function)} has no readable signature: {error}") from error


def is_asgi(function: Callable[..., object]) -> bool:
    """Tell whether `function` is an ASGI application by its parameters' names."""
    return list(signature_of(function).parameters)[:3] == _ASGI_PARAMETERS


def wants_framework(handler: object, types: tuple[type, ...]) -> bool:
    """Tell whether a handler asks for something that only the framework can give.

    That is a parameter whose annotation or default is of one of `types`, alone, in a union or inside `Annotated`, or a
    parameter named `request` without annotation.
    """
    read = read_handler(handler)
    return any(_is_framework(parameter, read.hints, types) for parameter in read.parameters)


def label_of(function: object) -> str:
    """Return the name of a callable for messages: `package.module.name`."""
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def type_name(annotation: object) -> str:
    """Return a type as its author wrote it, near enough."""
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation)


def mentioned(annotation: object) -> set[object]:
    """Return the types an annotation is made of: the members of unions, the bare type and metadata of `Annotated`."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        bare, *metadata = typing.get_args(annotation)
        return mentioned(bare).union(type(item) for item in metadata)
    if origin in (typing.Union, UnionType):
        return set().union(*map(mentioned, typing.get_args(annotation)))
    return {origin or annotation}


def _is_framework(parameter: inspect.Parameter, hints: Mapping[str, object], types: tuple[type, ...]) -> bool:
    if isinstance(parameter.default, types):
        return True
    if parameter.name not in hints:
        return parameter.name == "request" and parameter.default is EMPTY
    return any(isinstance(kind, type) and issubclass(kind, types) for kind in mentioned(hints[parameter.name]))


def _hints(function: Callable[..., object], label: str) -> dict[str, object]:
    try:
        return typing.get_type_hints(underlying(function), include_extras=True)
    except NameError as error:
        reason = f"the annotation {error.name!r} is no name of its module; define or import it there"
        raise DefinitionError(f"handler {label}: {reason}") from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise DefinitionError(f"handler {label}: its annotations cannot be read: {error}") from error


def _doc(function: Callable[..., object]) -> str:
    while isinstance(function, partial):
        function = function.func
    code = underlying(function)
    own = inspect.getdoc(code) if code.__doc__ else None
    described = own or (None if inspect.isroutine(function) else inspect.getdoc(type(function)))
    return described or ""
