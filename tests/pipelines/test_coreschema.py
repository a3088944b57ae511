from typing import Annotated, Any, Literal, NotRequired

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from asgipipe.pipelines.coreschema import bounded_validator, may_write_constants, types_in


class Item(BaseModel):
    values: list[int]
    children: "list[Item]" = []


class Point(TypedDict):
    x: float


class Cat(BaseModel):
    default: Literal["cat"]
    lives: list[int]


class Dog(BaseModel):
    default: Literal["dog"]


@dataclass
class Record:
    values: list[int]


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    x: float


# Members of these are called like parts of core schemas.
class Awkward(TypedDict):
    default: list[int]
    config: Item
    metadata: Point
    type: NotRequired[str]


CASES: list[tuple[Any, bytes]] = [
    (list[int], b'["a","b"]'),
    (set[int], b'["a","b"]'),
    (frozenset[int], b'["a","b"]'),
    (tuple[int, ...], b'["a","b"]'),
    (tuple[int, str, int], b'["a",1,"b"]'),
    (dict[str, int], b'{"a":"a","b":"b"}'),
    (dict[int, int], b'{"a":1,"b":2}'),
    (int | list[int] | list[str], b'[1,"a",2.5,null]'),
    (list[int] | None, b'["a","b"]'),
    (list[Item], b'[{"values":["a","b"]},{"values":["a"]}]'),
    (Item, b'{"values":["a","b"]}'),
    (dict[str, Item], b'{"a":{"values":[1],"children":[{"values":["a","b"]}]}}'),
    (Annotated[Cat | Dog, Field(discriminator="default")], b'{"default":"cat","lives":["a","b"]}'),
    (list[Record], b'[{"values":["a","b"]}]'),
    (Annotated[list[int], Field(min_length=1)], b'["a","b"]'),
]


@pytest.mark.parametrize(("annotation", "body"), CASES)
def test_one_error_is_enough(annotation: Any, body: bytes) -> None:
    """Wherever the list, the dictionary or the union is, the bounded validator stops at the first wrong thing."""
    adapter = TypeAdapter(annotation)
    with pytest.raises(pydantic.ValidationError) as usual:
        adapter.validator.validate_json(body, strict=True)
    with pytest.raises(pydantic.ValidationError) as bounded:
        bounded_validator(adapter).validate_json(body, strict=True)
    assert usual.value.error_count() > 1
    assert bounded.value.error_count() == 1


GOOD: list[tuple[Any, bytes]] = [
    (list[int], b"[1,2]"),
    (int | str | list[int] | None, b"[1]"),
    (dict[str, Item], b'{"a":{"values":[1],"children":[{"values":[]}]}}'),
    (Annotated[Cat | Dog, Field(discriminator="default")], b'{"default":"dog"}'),
    (list[Record], b'[{"values":[1]}]'),
    (Awkward, b'{"default":[1],"config":{"values":[2]},"metadata":{"x":1}}'),
]


@pytest.mark.parametrize(("annotation", "body"), GOOD)
def test_what_is_right_is_read_alike(annotation: Any, body: bytes) -> None:
    """What the bounded validator accepts is the very value that the usual one gives."""
    adapter = TypeAdapter(annotation)
    value = bounded_validator(adapter).validate_json(body, strict=True)
    assert value == adapter.validator.validate_json(body, strict=True)


def test_validators_of_the_users_still_run() -> None:
    """They are a part of the type, inside of a list too."""

    def positive(value: int) -> int:
        if value < 0:
            raise ValueError("must not be negative")
        return value + 1

    adapter: TypeAdapter[list[int]] = TypeAdapter(list[Annotated[int, pydantic.AfterValidator(positive)]])
    validator = bounded_validator(adapter)
    assert validator.validate_json(b"[1]") == [2]
    with pytest.raises(pydantic.ValidationError, match="must not be negative"):
        validator.validate_json(b"[-1]")


def test_a_custom_error_of_a_union_is_kept() -> None:
    """Only unions without an error of their own get ours."""
    adapter: TypeAdapter[int | str] = TypeAdapter(int | str)
    schema: Any = {**adapter.core_schema, "custom_error_type": "mine", "custom_error_message": "Mine"}
    adapter.core_schema = schema  # as pydantic's own types make it
    with pytest.raises(pydantic.ValidationError) as refused:
        bounded_validator(adapter).validate_json(b"[]")
    assert refused.value.errors()[0]["type"] == "mine"


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, {"int"}),
        (list[float | None], {"list", "nullable", "float"}),
        (Point, {"typed-dict", "typed-dict-field", "float"}),
        (list[Point], {"list", "typed-dict", "typed-dict-field", "float"}),
        (Any, {"any"}),
    ],
)
def test_types_in(annotation: Any, expected: set[str]) -> None:
    """Every kind of node there is, and no other."""
    assert types_in(TypeAdapter(annotation).core_schema) == expected


def test_names_of_members_are_no_parts_of_the_schema() -> None:
    """What is below a member called `default`, `config` or `metadata` is found as well."""
    found = types_in(TypeAdapter(Awkward).core_schema)
    assert {"list", "model", "model-fields", "float", "nested"} <= found


@pytest.mark.parametrize(
    ("annotation", "may"),
    [
        (float, False),
        (list[Item], False),
        (Constants, True),
        (list[dict[str, Constants]], True),
        (Any, True),
        (dict[str, Any], True),
    ],
)
def test_may_write_constants(annotation: Any, may: bool) -> None:
    """Only models that say so, and what is unknown before it is there, can write NaN."""
    assert may_write_constants(TypeAdapter(annotation).core_schema) is may


def test_a_model_is_left_as_it_is() -> None:
    """The bounded validator changes nothing about the user's own model."""
    adapter = TypeAdapter(list[Item])
    bounded_validator(adapter)
    with pytest.raises(pydantic.ValidationError) as refused:
        Item.model_validate({"values": ["a", "b"]})
    assert refused.value.error_count() == 2
