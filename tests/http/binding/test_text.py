import enum
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from asgipipe.errors import BadRequestError
from asgipipe.http.binding.text import MAX_QUERY_FIELDS, TextForm, parse_query, text_form


class Colour(enum.Enum):
    RED = "red"
    NUMBER = 3


class Size(enum.IntEnum):
    S = 1


class Model(BaseModel):
    x: int


def form_of(kind: object) -> TextForm | None:
    return text_form(TypeAdapter(kind).json_schema())


@pytest.mark.parametrize(
    ("kind", "text", "json"),
    [
        (int, "5", b"5"),
        (int, "-5", b"-5"),
        (int, "05", b'"05"'),
        (int, "5 ", b'"5 "'),
        (int, "9" * 301, b'"' + b"9" * 301 + b'"'),
        (float, "1.5e3", b"1.5e3"),
        (float, "nan", b'"nan"'),
        (bool, "true", b"true"),
        (bool, "yes", b'"yes"'),
        (str, "5", b'"5"'),
        (str, 'a"\x00\n', b'"a\\"\\u0000\\n"'),
        (int | None, "5", b"5"),
        (int | str, "5", b'"5"'),
        (Decimal, "1.10", b'"1.10"'),
        (Colour, "red", b'"red"'),
        (Colour, "3", b"3"),
        (Size, "1", b"1"),
        (Literal["1", 2], "1", b'"1"'),
        (Literal["1", 2], "2", b"2"),
        (date, "2024-01-01", b'"2024-01-01"'),
        (UUID, "x", b'"x"'),
    ],
)
def test_text_becomes_the_json_it_stands_for(kind: object, text: str, json: bytes) -> None:
    """Text is read by the type it is for; what does not fit stays text, for the validator to refuse."""
    form = form_of(kind)
    assert form is not None
    assert (form.to_json(text), form.many) == (json, False)


@pytest.mark.parametrize("kind", [list[int], set[str], tuple[int, int], list[Colour], list[int] | None])
def test_lists_of_scalars_may_be_repeated(kind: object) -> None:
    """A list of scalars can be written in a query."""
    form = form_of(kind)
    assert form is not None
    assert form.many


@pytest.mark.parametrize(
    "kind", [Model, dict, list, dict[str, int], list[Model], list[list[int]], Model | None, object, int | Model, tuple]
)
def test_what_has_members_needs_a_body(kind: object) -> None:
    """Objects, untyped lists and anything that may be one cannot be written in a query."""
    assert form_of(kind) is None


def test_a_type_that_refers_to_itself_needs_a_body() -> None:
    """A recursive alias is not followed forever."""
    assert text_form({"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}) is None


def test_queries_are_parsed_by_name() -> None:
    """Repeated names keep all values, in order; empty values count; plus signs and escapes are decoded."""
    assert parse_query(b"a=1&b=&a=2+3&%C3%BC=%26") == {"a": ["1", "2 3"], "b": [""], "ü": ["&"]}


@pytest.mark.parametrize("query", [b"a=%ff", b"\xff=1", b"a=%ED%A0%80", b"&".join([b"a=1"] * (MAX_QUERY_FIELDS + 1))])
def test_queries_that_cannot_be_read_are_refused(query: bytes) -> None:
    """Text that is not UTF-8, and too many fields, are a bad request."""
    with pytest.raises(BadRequestError):
        parse_query(query)


@given(st.binary(max_size=200))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    """No bytes whatever make parsing fail in another way."""
    try:
        fields = parse_query(query)
    except BadRequestError:
        return
    assert all(isinstance(value, str) for values in fields.values() for value in values)
