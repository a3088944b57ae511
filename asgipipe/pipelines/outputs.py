"""The names and types of what a pipeline or a step returns, decided when it is defined, never per request."""

import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType, GenericAlias
from typing import Annotated, Any, Final, Unpack

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import describe, kind_of, plain_function
from asgipipe.pipelines.flow import returned_value
from asgipipe.pipelines.stream import item_type
from asgipipe.pipelines.syntax import annotations
from asgipipe.pipelines.values import Origin, Value, unpacked

DEFAULT: Final = "output"

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class OutputShape:
    """The outputs of a pipeline or a step.

    `annotations` holds the type of each output, `object` where nothing is known of it. With `multiple` the returned
    tuple is split into the names by position; else whatever is returned is the one output.
    """

    names: tuple[str, ...]
    annotations: tuple[object, ...]
    multiple: bool


@dataclass(frozen=True, slots=True)
class _Source:
    """The step output that is returned; `step` is None where it is one of several steps'."""

    output: str
    step: str | None


@dataclass(frozen=True, slots=True)
class _Output:
    """What decides the name of one output, the strongest first; only sources and defaults may have to give way."""

    written: str | None
    source: _Source | None
    default: str

    def name(self, *, clashes: bool) -> str:
        if self.written or self.source is None:
            return self.written or self.default
        if not clashes:
            return self.source.output
        return f"{self.source.step}.{self.source.output}" if self.source.step else self.default


def output_names(function: Callable[..., object], hints: Mapping[str, object]) -> OutputShape:
    """Decide the outputs of `function`, whose annotations are `hints`.

    The first of these that there is: the name in `Annotated[T, "name"]`, around the return annotation or an item of its
    tuple; the name of the step output that is returned, `<step>.<output>` where two clash; `output`, or `output_0`,
    `output_1` ... for a tuple of fixed length.

    Raises DefinitionError for a name that is empty or written twice.
    """
    written, annotation = _split_name(function, hints.get("return", _MISSING))
    if kind_of(function).streams:
        return OutputShape((written or DEFAULT,), (_streamed(annotation),), multiple=False)
    if written:
        return OutputShape((written,), (annotation,), multiple=False)
    items = [_split_name(function, item) for item in _tuple_items(annotation)]
    with _returned_value(function, needed=not items or not all(name for name, _ in items)) as returned:
        if items:
            return _declared_tuple(function, annotation, items, returned)
        count = _split_count(returned) if _is_open(annotation) else None
        return _single(annotation, returned) if count is None else _undeclared_tuple(function, count, returned)


def _single(annotation: object, returned: Value) -> OutputShape:
    source = _source(returned)
    known = _step_annotation(returned) if annotation is _MISSING else annotation
    return OutputShape((source.output if source else DEFAULT,), (known,), multiple=False)


def _declared_tuple(
    function: Callable[..., object], annotation: object, items: Sequence[tuple[str | None, object]], returned: Value
) -> OutputShape:
    source = _source(returned)
    if source is not None and not any(name for name, _ in items):  # one output of a step, which is a tuple itself
        return OutputShape((source.output,), (annotation,), multiple=False)
    names = _names(function, [name for name, _ in items], _items(returned, len(items)))
    return OutputShape(names, tuple(item for _, item in items), multiple=True)


def _undeclared_tuple(function: Callable[..., object], count: int, returned: Value) -> OutputShape:
    items = _items(returned, count)
    return OutputShape(_names(function, [None] * count, items), tuple(map(_step_annotation, items)), multiple=True)


# The returned value

_being_decided: ContextVar[frozenset[FunctionType]] = ContextVar("_being_decided", default=frozenset())


@contextmanager
def _returned_value(function: Callable[..., object], *, needed: bool) -> Iterator[Value]:
    """Give what `function` returns; nothing is known of it when it is a step that returns its own result."""
    plain = plain_function(function)
    deciding = _being_decided.get()
    if plain is None or not needed or plain.function in deciding:
        yield Value()
        return
    token = _being_decided.set(deciding | {plain.function})
    try:
        yield returned_value(function) or Value()
    finally:
        _being_decided.reset(token)


def _split_count(returned: Value) -> int | None:
    """Return into how many outputs the value is split without an annotation that says so; None if it is not."""
    if returned.is_tuple and returned.items:
        return len(returned.items)
    counts = {len(origin.step.output_names) if origin.is_whole else 1 for origin in returned.origins}
    count = counts.pop() if len(counts) == 1 else 1
    return count if count > 1 else None


def _items(returned: Value, count: int) -> tuple[Value, ...]:
    return unpacked(returned, count) or (Value(),) * count


def _source(value: Value) -> _Source | None:
    outputs = {_single_output(origin) for origin in value.origins}
    if len(outputs) != 1 or (output := outputs.pop()) is None:
        return None
    steps = {origin.step.name for origin in value.origins}
    return _Source(output, steps.pop() if len(steps) == 1 else None)


def _single_output(origin: Origin) -> str | None:
    names = origin.step.output_names
    if origin.output is not None:
        return names[origin.output]
    return names[0] if origin.is_whole and len(names) == 1 else None


def _step_annotation(value: Value) -> object:
    """Return the type that the steps give the value, `object` where they do not agree."""
    found = [_origin_annotation(origin) for origin in value.origins if not origin.submitted]
    agreed = found and len(found) == len(value.origins) and all(other == found[0] for other in found)
    return found[0] if agreed else object


def _origin_annotation(origin: Origin) -> object:
    function = origin.step.function
    try:
        shape = output_names(function, annotations(function, ["return"]))
    except DefinitionError:  # it names a class of a function that has returned; the step itself was defined in time
        return object
    if origin.output is None:
        return object if shape.multiple else shape.annotations[0]
    return shape.annotations[origin.output] if origin.output < len(shape.annotations) else object


# Names


def _names(function: Callable[..., object], written: Sequence[str | None], values: Sequence[Value]) -> tuple[str, ...]:
    """Return distinct names: those that are written as they are, the others made different where they clash."""
    _refuse_repeated(function, written)
    outputs = [
        _Output(name, _source(value), f"{DEFAULT}_{index}")
        for index, (name, value) in enumerate(zip(written, values, strict=True))
    ]
    counts = Counter(output.name(clashes=False) for output in outputs)
    taken, names = {name for name in written if name}, list[str]()
    for output in outputs:
        wanted = output.name(clashes=counts[output.name(clashes=False)] > 1)
        names.append(output.written or _free(wanted, taken))
        taken.add(names[-1])
    return tuple(names)


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _refuse_repeated(function: Callable[..., object], written: Sequence[str | None]) -> None:
    for name, count in Counter(name for name in written if name).items():
        if count > 1:
            raise DefinitionError(
                f"{describe(function)}: the return annotation names {count} outputs {name!r}; give each its own name"
            )


def _split_name(function: Callable[..., object], annotation: object) -> tuple[str | None, object]:
    """Return the name in `Annotated[T, "name"]` and the annotation without it; other metadata stays."""
    annotation = _unaliased(annotation)
    if typing.get_origin(annotation) is not Annotated:
        return None, annotation
    base, *metadata = typing.get_args(annotation)
    index = next((index for index, item in enumerate(metadata) if type(item) is str), None)
    if index is None:
        return None, annotation
    name = metadata.pop(index)
    if not name.strip():
        raise DefinitionError(
            f"{describe(function)}: the return annotation names an output {name!r}; a name cannot be empty"
        )
    return name, Annotated[(base, *metadata)] if metadata else base


# Annotations


def _unaliased(annotation: object) -> object:
    """Return what a `type Name = ...` statement names."""
    while type(annotation).__name__ == "TypeAliasType":
        annotation = getattr(annotation, "__value__", object)
    return annotation


def _tuple_items(annotation: object) -> tuple[object, ...]:
    """Return the item types of a tuple of fixed length; none for anything else."""
    items = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    return () if any(map(_is_open_ended, items)) else items


def _is_open_ended(item: object) -> bool:
    unpacks = typing.get_origin(item) is Unpack or getattr(item, "__unpacked__", False)
    return item is Ellipsis or bool(unpacks)


def _is_open(annotation: object) -> bool:
    """Say whether the annotation leaves it open what is returned, so that the return statements decide."""
    return any(annotation is known for known in (_MISSING, Any, object, tuple, typing.Tuple))  # noqa: UP006


def _streamed(annotation: object) -> object:
    """Return the type of a generator's value, metadata kept: the joined text, or the list of its items."""
    item = item_type(annotation)
    value = str if item is str else GenericAlias(list, (object if item is None else item,))
    metadata = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    return Annotated[(value, *metadata)] if metadata else value
