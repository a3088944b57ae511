"""Records as rows: the columns of a table are the fields of its record, in order; what is no text or number is JSON."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from asgipipe.stores.database import Row, Value


class Record(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # as `dataclasses.fields` wants it


R = TypeVar("R", bound=Record)

_ADAPTERS: dict[type[Record], TypeAdapter[Any]] = {}  # each of the type that it is kept under


def names_of(record: type[Record]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def columns_of(record: type[Record]) -> str:
    return ", ".join(names_of(record))


def record_of(kind: type[R], row: Row) -> R:
    """Return the record that a row with the columns of its fields is."""
    values = {
        name: from_json(value) if isinstance(value, bytes) else value
        for name, value in zip(names_of(kind), row, strict=True)
    }
    return _adapter(kind).validate_python(values)


def values_of(record: Record, names: Sequence[str] = ()) -> list[Value]:
    """Return the columns of a record, or those called `names`."""
    return [stored(getattr(record, name)) for name in names or names_of(type(record))]


def stored(value: object) -> Value:
    """Return what stands for a field in its column."""
    if value is None or isinstance(value, int | float):
        return value
    return str(value) if isinstance(value, str) else to_json(value)


def _adapter(kind: type[R]) -> TypeAdapter[R]:
    # Made when it is first needed: to import this module builds no validator.
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
