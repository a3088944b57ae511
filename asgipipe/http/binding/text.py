"""Text from a path or a query, as the JSON it stands for.

Values from a URL go through the same strict validator as values from a body, so what the OpenAPI document says is what
is accepted: `5` for an integer, but neither `5.0` nor ` 5`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl

from pydantic_core import to_json

from asgipipe.errors import BadRequestError

Schema = Mapping[str, object]

MAX_QUERY_FIELDS = 1000

# RFC 8259, section 6; longer ones are out of range anyway and would be refused as malformed JSON, not as a wrong value.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,299})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,4})?")
_REFERENCE = re.compile(r"#/\$defs/(.+)")


@dataclass(frozen=True, slots=True)
class TextForm:
    """How the text of one parameter is read; `many` for one that may be repeated."""

    types: frozenset[str]
    words: frozenset[str] = frozenset()
    many: bool = False

    def to_json(self, text: str) -> bytes:
        """Return the JSON that `text` stands for. Where a string is allowed it is a string."""
        if "string" in self.types or text in self.words:
            return to_json(text)
        if "number" in self.types and _NUMBER.fullmatch(text):
            return text.encode()
        if "boolean" in self.types and text in ("true", "false"):
            return text.encode()
        return to_json(text)  # which the validator refuses, saying what it expected


def text_form(schema: Schema) -> TextForm | None:
    """Return how a value with this JSON schema is written in a URL, or None when only a body can hold it."""
    definitions = cast("Mapping[str, Schema]", schema.get("$defs", {}))
    form = TextForm(frozenset())
    for alternative in _alternatives(schema, definitions, frozenset()):
        single = _form(alternative, definitions)
        if single is None:
            return None
        form = TextForm(form.types | single.types, form.words | single.words, form.many or single.many)
    return form


def parse_query(query: bytes) -> dict[str, list[str]]:
    """Return the values of a query string by name. Raises BadRequestError."""
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise BadRequestError("The query is not percent-encoded UTF-8.") from None
    except ValueError:
        raise BadRequestError(f"The query has more than {MAX_QUERY_FIELDS} fields.") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _alternatives(schema: Schema, definitions: Mapping[str, Schema], seen: frozenset[str]) -> Iterator[Schema]:
    reference = _REFERENCE.fullmatch(str(schema.get("$ref", "")))
    if reference is not None:
        name = reference[1]
        yield from _alternatives({} if name in seen else definitions[name], definitions, seen | {name})
        return
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            for alternative in cast("list[Schema]", schema[key]):
                yield from _alternatives(alternative, definitions, seen)
            return
    yield schema


def _form(schema: Schema, definitions: Mapping[str, Schema]) -> TextForm | None:
    if "enum" in schema or "const" in schema:
        return _enumerated(cast("list[object]", schema.get("enum", [schema.get("const")])))
    match schema.get("type"):
        case "string":
            return TextForm(frozenset({"string"}))
        case "integer" | "number":
            return TextForm(frozenset({"number"}))
        case "boolean":
            return TextForm(frozenset({"boolean"}))
        case "null":
            return TextForm(frozenset())
        case "array":
            return _listed(schema, definitions)
    return None


def _enumerated(values: list[object]) -> TextForm | None:
    kinds: set[str] = set()
    for value in values:
        if isinstance(value, bool):
            kinds.add("boolean")
        elif isinstance(value, int | float):
            kinds.add("number")
        elif value is not None and not isinstance(value, str):
            return None
    return TextForm(frozenset(kinds), frozenset(value for value in values if isinstance(value, str)))


def _listed(schema: Schema, definitions: Mapping[str, Schema]) -> TextForm | None:
    items = [*cast("list[Schema]", schema.get("prefixItems", [])), cast("Schema", schema.get("items"))]
    form = TextForm(frozenset(), many=True)
    for item in filter(lambda item: item is not None, items):
        single = text_form({**item, "$defs": definitions})
        if single is None or single.many:
            return None
        form = TextForm(form.types | single.types, form.words | single.words, many=True)
    return form if form.types or form.words else None
