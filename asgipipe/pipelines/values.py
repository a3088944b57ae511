"""What is known of a value in a program that is read, not run: which nodes' results are in it, what it may be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from asgipipe.pipelines.callables import StepLike, is_node
from asgipipe.pipelines.syntax import UNKNOWN

T = TypeVar("T")

MAX_ALTERNATIVES = 16


@dataclass(frozen=True, slots=True)
class Origin:
    """An output of a step: the one numbered `output`, or all that the step returns; `submitted` while in a future."""

    step: StepLike
    output: int | None = None
    submitted: bool = False

    @property
    def is_whole(self) -> bool:
        return self.output is None and not self.submitted


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What is known of an expression.

    `sources`: the nodes whose results are in it. `objects`: the Python objects it may be; empty when not known.
    `origins`: the step outputs it may be, unchanged; empty when it may be anything else. `items`: its items, when it
    was written as a tuple or list of fixed length; `is_tuple` when as a tuple.
    """

    sources: frozenset[str] = frozenset()
    objects: tuple[object, ...] = ()
    origins: tuple[Origin, ...] = ()
    items: "tuple[Value, ...] | None" = None
    is_tuple: bool = False


Env = dict[str, Value]
"""What the names of a function are at one point of it."""


def sources_of(values: Iterable[Value]) -> frozenset[str]:
    return frozenset().union(*(value.sources for value in values))


def blend(values: Iterable[Value]) -> Value:
    """Return what was made from all of `values`."""
    return Value(sources_of(values))


def join(values: Sequence[Value]) -> Value:
    """Return what is one of `values`."""
    if len(values) == 1:
        return values[0]
    return Value(
        sources_of(values),
        _alternatives([value.objects for value in values], id),
        _alternatives(
            [value.origins for value in values], lambda origin: (id(origin.step), origin.output, origin.submitted)
        ),
        _columns([value.items for value in values]),
        all(value.is_tuple for value in values),
    )


def _alternatives(options: Sequence[tuple[T, ...]], key: Callable[[T], object]) -> tuple[T, ...]:
    if not all(options):
        return ()
    different = {key(choice): choice for option in options for choice in option}
    return tuple(different.values()) if len(different) <= MAX_ALTERNATIVES else ()


def _columns(rows: Sequence[tuple[Value, ...] | None]) -> tuple[Value, ...] | None:
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len({len(row) for row in known}) != 1:
        return None
    return tuple(join(column) for column in zip(*known, strict=True))


def join_names(envs: Sequence[Env]) -> Env:
    names = dict.fromkeys(name for env in envs for name in env)
    # A name that one branch does not bind is what the others say: without them, using it would be an error.
    return {name: join([env[name] for env in envs if name in env]) for name in names}


def unpacked(value: Value, count: int) -> tuple[Value, ...] | None:
    """Return the items of a value that is unpacked into `count` names."""
    if value.items is not None:
        return value.items if len(value.items) == count else None
    if count > 1 and value.origins and all(_is_split(origin, count) for origin in value.origins):
        return tuple(
            Value(value.sources, origins=tuple(Origin(origin.step, index) for origin in value.origins))
            for index in range(count)
        )
    return None


def _is_split(origin: Origin, count: int) -> bool:
    return origin.is_whole and len(origin.step.output_names) == count


def settled(value: Value) -> Value:
    """Return the result of the futures that `value` is or consists of."""
    origins = tuple(replace(origin, submitted=False) for origin in value.origins)
    return replace(value, origins=origins, items=None if value.items is None else tuple(map(settled, value.items)))


def item_of(value: Value, index: object) -> Value | None:
    """Return `value[index]`, for an index that is written as a constant."""
    if isinstance(index, int):
        count = len(value.origins[0].step.output_names) if value.origins else 0
        parts = unpacked(value, count) if value.items is None else value.items
        if parts is not None:
            return parts[index] if -len(parts) <= index < len(parts) else None
    found = tuple(_constant_item(container, index) for container in value.objects)
    return Value(value.sources, found) if found and all(item is not UNKNOWN for item in found) else None


def _constant_item(container: object, index: object) -> object:
    if type(container) is dict:
        return container.get(index, UNKNOWN)
    if isinstance(index, int) and (type(container) is list or type(container) is tuple):
        return container[index] if -len(container) <= index < len(container) else UNKNOWN
    return UNKNOWN


def turn_of(value: Value) -> Value:
    """Return what a loop over `value` gives on each turn."""
    if value.items:
        return join(value.items)
    steps = _alternatives([_steps_in(container) for container in value.objects], id) if value.objects else ()
    return Value(value.sources, steps)


def _steps_in(container: object) -> tuple[object, ...]:
    known = type(container) is list or type(container) is tuple
    return tuple(container) if known and all(map(is_node, container)) else ()  # type: ignore[call-overload,arg-type]
