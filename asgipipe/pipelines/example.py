"""An example of what a JSON Schema asks for: its required members only."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import cast

Schema = Mapping[str, object]

_PLAIN: Mapping[str, object] = {
    "string": "text",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "null": None,
}
_FORMATS: Mapping[str, str] = {
    "date": "2030-01-31",
    "time": "12:00:00Z",
    "date-time": "2030-01-31T12:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "name@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "binary": "text",
}
_DEEPEST = 8


def example(schema: Schema, root: Schema, depth: int = 0) -> object:
    """Return a value for `schema`, whose references are to the `$defs` of `root`.

    It has the right types; a pattern or a condition across fields it may miss.
    """
    if depth > _DEEPEST:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("examples", "enum"):
        values = schema.get(name)
        if isinstance(values, list) and values:
            return values[0]
    alternatives = _alternatives(schema, root)
    return example(alternatives[0], root, depth + 1) if alternatives else _of_type(schema, root, depth)


def _alternatives(schema: Schema, root: Schema) -> list[Schema]:
    reference = schema.get("$ref")
    definitions = root.get("$defs")
    if isinstance(reference, str) and isinstance(definitions, Mapping):
        return [cast("Schema", definitions.get(reference.rpartition("/")[2], {}))]
    for name in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(name)
        if isinstance(choices, list) and choices:
            return cast("list[Schema]", sorted(choices, key=lambda choice: choice.get("type") == "null"))
    return []


def _of_type(schema: Schema, root: Schema, depth: int) -> object:
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        members = cast("Mapping[str, Schema]", schema.get("properties", {}))
        required = cast("Sequence[str]", schema.get("required", ()))
        return {name: example(members.get(name, {}), root, depth + 1) for name in required}
    if kind == "array":
        return _items(schema, root, depth)
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", inf)
        return text.ljust(int(min(least, 1000)), "x")[: None if most == inf else int(most)]
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return _PLAIN.get(str(kind))


def _items(schema: Schema, root: Schema, depth: int) -> list[object]:
    first = schema.get("prefixItems")
    if isinstance(first, list):
        return [example(item, root, depth + 1) for item in first]
    items = schema.get("items")
    least = schema.get("minItems")
    count = max(1, least if isinstance(least, int) else 1)
    return [example(cast("Schema", items), root, depth + 1)] * min(count, 10) if isinstance(items, Mapping) else []


def _number(schema: Schema, *, whole: bool) -> object:
    """1 where it is allowed, else a number as near to a bound as is safe."""
    step = 1.0 if whole else 0.5
    low = max(_bound(schema, "minimum", -inf), _bound(schema, "exclusiveMinimum", -inf) + step)
    high = min(_bound(schema, "maximum", inf), _bound(schema, "exclusiveMaximum", inf) - step)
    value = (low + _bound(schema, "exclusiveMaximum", high)) / 2 if low > high else min(max(1.0, low), high)
    return int(value) if whole else value


def _bound(schema: Schema, name: str, otherwise: float) -> float:
    value = schema.get(name)
    return float(value) if isinstance(value, int | float) else otherwise
