"""The results of steps as JSON that gives them back."""

from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from asgipipe.pipelines.contract import UNUSABLE

MAX_RESULT = 16 * 1024 * 1024
"""Bytes of JSON that a result may have which is kept."""

_ONCE_ONLY = (Iterator, Awaitable)
_SCALARS = frozenset((bool, int, float, str, bytes, type(None)))


class ResultCodec:
    """Writes and reads the results of one step by its return annotation.

    Nothing is written that would not come back as it was: neither what the annotation does not hold, nor, without one,
    what JSON does not have. An `annotation` that pydantic cannot serve writes nothing.
    """

    def __init__(self, annotation: object) -> None:
        self._adapter = _adapter(annotation)

    def dump(self, value: object) -> bytes | None:
        """Return the JSON of `value`, None when that would not give it back."""
        adapter = self._adapter
        if adapter is None:
            return None
        try:
            if _used_up_by_reading(value):
                return None
            body = adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False)
            if len(body) > MAX_RESULT or not _same(adapter.validate_json(body), value):
                return None
        except Exception:  # boundary: serialisers, validators and __eq__ are user code; what they refuse is not kept
            return None
        return body

    def load(self, body: bytes) -> tuple[object] | None:
        """Return what `body` was written from, as a tuple of one; None when the annotation has changed since."""
        if self._adapter is None:
            return None
        try:
            return (self._adapter.validate_json(body),)
        except Exception:  # boundary: validators are user code
            return None


def _adapter(annotation: object) -> TypeAdapter[object] | None:
    try:
        return TypeAdapter(Any if annotation is object else annotation)  # type: ignore[arg-type]  # any object that pydantic takes as a type
    except UNUSABLE:
        return None


def _used_up_by_reading(value: object) -> bool:
    """True for what holds an iterator or the like, which writing it as JSON would use up."""
    if type(value) in _SCALARS:
        return False
    if isinstance(value, _ONCE_ONLY):
        return True
    if isinstance(value, Mapping):
        return any(map(_used_up_by_reading, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return not _SCALARS.issuperset(map(type, value)) and any(map(_used_up_by_reading, value))
    parts = _parts(value)
    return parts is not None and any(map(_used_up_by_reading, parts.values()))


def _parts(value: object) -> dict[str, object] | None:
    """Return the fields of a model or a dataclass."""
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return None


def _same(one: object, other: object) -> bool:
    """True when both are equal, and of the same types all the way down: 1, 1.0 and True are three things."""
    if type(one) is not type(other):
        return False
    if type(one) in _SCALARS:
        return one == other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _same(list(one), list(other)) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and _all_same(one, other)
    if isinstance(one, set | frozenset) and isinstance(other, set | frozenset):
        return one == other and _same(sorted(map(repr, one)), sorted(map(repr, other)))
    parts, others = _parts(one), _parts(other)
    if parts is not None and others is not None and not _same(parts, others):
        return False
    return bool(one == other)


def _all_same(one: list[object] | tuple[object, ...], other: list[object] | tuple[object, ...]) -> bool:
    if _SCALARS.issuperset(map(type, one)):  # in C, for long lists of numbers
        return list(map(type, one)) == list(map(type, other)) and one == other
    return all(map(_same, one, other))
