"""Pydantic's core schemas: what they are made of, and the same schema with errors that are bounded.

A schema is a tree of dictionaries, each with a `type` (see `pydantic_core.core_schema`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_core import CoreSchema, SchemaValidator

# Members of a node that hold values of the user's, or functions, and no schemas.
_VALUES = frozenset(("cls", "config", "default", "expected", "function", "members", "metadata", "ref", "serialization"))
# Members whose keys are names of the user's: a field may be called `default`.
_BY_NAME = frozenset(("choices", "fields"))
_MANY = frozenset(("list", "tuple", "set", "frozenset", "dict"))
_MISMATCH = {"custom_error_type": "union_mismatch", "custom_error_message": "Input has none of the accepted forms"}


def types_in(schema: object, depth: int = 0) -> set[str]:
    """Return the `type` of every node; a typed-dict inside another is `nested`, as it may have its own config."""
    found: set[str] = set()
    for node in _nodes(schema):
        kind = str(node["type"])
        nested = kind == "typed-dict" and depth > 0
        found.add("nested" if nested else kind)
        for part in _parts(node):
            found |= types_in(part, depth + (kind == "typed-dict"))
    return found


def may_write_constants(schema: object) -> bool:
    """True when NaN or Infinity may be written as such: by a model that says so, or by one only known at run time."""
    return any(
        node["type"] == "any"
        or _mapping(node.get("config")).get("ser_json_inf_nan") == "constants"
        or any(may_write_constants(part) for part in _parts(node))
        for node in _nodes(schema)
    )


def bounded_validator(adapter: TypeAdapter[Any]) -> SchemaValidator:
    """Return a validator that accepts what `adapter` accepts and gives up early on what it does not.

    A list stops at its first wrong item, and a union gives one error instead of those of all its members. Pydantic
    builds an object for every error and a copy of every wrong value: five million wrong items, which are a body of
    16 MiB, cost it 2 GB and 8 s.
    """
    schema = cast(CoreSchema, _hasty(adapter.core_schema))
    try:
        # The validators that models carry with them are made from the schema as it was.
        return SchemaValidator(schema, None, _use_prebuilt=False)
    except TypeError:  # pydantic before 2.13: models keep their own validators, and the errors in them have no bound
        return SchemaValidator(schema)


def _hasty(schema: object) -> object:
    if isinstance(schema, list):
        return [_hasty(part) for part in schema]
    if isinstance(schema, tuple):
        return tuple(_hasty(part) for part in schema)
    if not isinstance(schema, Mapping):
        return schema
    changed = _changed(schema, _hasty)
    if schema.get("type") in _MANY:
        changed["fail_fast"] = True
    elif schema.get("type") == "union":
        changed |= {key: changed.get(key, value) for key, value in _MISMATCH.items()}
    return changed


def _changed(node: Mapping[str, object], change: Callable[[object], object]) -> dict[str, object]:
    changed: dict[str, object] = {}
    for key, value in node.items():
        if key in _VALUES:
            changed[key] = value
        elif key in _BY_NAME and isinstance(value, Mapping):
            changed[key] = {name: change(part) for name, part in value.items()}
        else:
            changed[key] = change(value)
    return changed


def _nodes(schema: object) -> Iterator[Mapping[str, object]]:
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _nodes(part)
    elif isinstance(schema, Mapping) and isinstance(schema.get("type"), str):
        yield schema
    elif isinstance(schema, Mapping):  # such as an argument of a function's, which holds a schema beside its name
        for part in _parts(schema):
            yield from _nodes(part)


def _parts(node: Mapping[str, object]) -> Iterator[object]:
    for key, value in node.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            yield from value.values()
        elif key not in _VALUES:
            yield value


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
