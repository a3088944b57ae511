import dataclasses
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from asgipipe.pipelines.results import MAX_RESULT, ResultCodec


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Point(TypedDict):
    x: float
    label: str | None


@dataclasses.dataclass
class Box:
    corner: Point
    made: datetime
    colours: set[Colour]


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(alias="itemName")
    price: Decimal
    boxes: list[Box] = []

    @computed_field
    def twice(self) -> Decimal:
        return 2 * self.price


class Special(Item):
    more: int = 1


INSTANT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
BOX = Box({"x": 1.5, "label": None}, INSTANT, {Colour.RED})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
python_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.sampled_from(Colour)
    | st.just(Level.LOW)
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=8,
)
ANNOTATIONS = [object, Any, int, float, str, list[int], list[float], dict[str, float], tuple[int, str], set[int],
               datetime | date | str, dict[int, str], Colour | int | None, bytes, Box, Item]  # fmt: skip


def shape(value: object) -> object:
    """Return something that is equal for what is the same, types and the order of keys included."""
    if isinstance(value, dict):
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    return type(value), value


@settings(max_examples=200, deadline=None)
@given(value=python_values, annotation=st.sampled_from(ANNOTATIONS))
def test_what_is_kept_comes_back_as_it_was(value: object, annotation: object) -> None:
    """Under any annotation, what is written is read back equal and of the same types; all else is not written."""
    codec = ResultCodec(annotation)
    body = codec.dump(value)
    if body is not None:
        restored = codec.load(body)
        assert restored is not None
        assert shape(restored[0]) == shape(value)


@settings(max_examples=50, deadline=None)
@given(value=json_values)
def test_json_values_are_kept_without_an_annotation(value: object) -> None:
    """What JSON has a form for is kept by steps that say nothing of their results."""
    assert ResultCodec(object).dump(value) is not None


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, INSTANT),
        (date, date(2026, 1, 2)),
        (timedelta, timedelta(days=1, microseconds=1)),
        (time, time(1, 2, 3)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=1)),
        (Path, Path("a/b")),
        (bytes, b"abc"),
        (Colour, Colour.BLUE),
        (Literal["a", 1], 1),
        (tuple[Annotated[int, "first"], Annotated[str, "second"]], (1, "a")),
        (set[int], {1, 2}),
        (dict[int, Point], {1: {"x": 0.5, "label": "a"}}),
        (Box, BOX),
        (Item, Item(itemName="a", price=Decimal(1), boxes=[BOX])),
        (list[Item] | None, [Item(itemName="a", price=Decimal(1))]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_typed_results_come_back_by_their_annotation(annotation: object, value: object) -> None:
    """Models, dataclasses, dates, enums and the like are given back as such."""
    codec = ResultCodec(annotation)
    body = codec.dump(value)
    assert body is not None
    restored = codec.load(body)
    assert restored == (value,)
    assert type(restored[0]) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (object, (1, 2)),
        (object, {1: "a"}),
        (object, INSTANT),
        (object, float("nan")),
        (object, Level.LOW),
        (float, 1),
        (int, True),
        (Item, Special(itemName="a", price=Decimal(1))),
        (str, "\ud800"),
        (object, "x" * MAX_RESULT),
        (type, int),
        (memoryview, memoryview(b"")),
        (object, object()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_another_thing_is_not_kept(annotation: object, value: object) -> None:
    """A tuple that would be a list, a subclass that would lose fields, what has no JSON form: none is written."""
    assert ResultCodec(annotation).dump(value) is None


def test_iterators_are_not_used_up() -> None:
    """A result that can be read only once is not read to see whether it can be kept."""

    def items() -> Iterator[int]:
        yield 1

    @dataclasses.dataclass
    class Holder:
        items: Any

    for annotation, value, inner in (
        (object, (found := items()), found),
        (Iterator[int], (found := items()), found),
        (object, [{"a": (found := items())}], found),
        (Holder, Holder(found := items()), found),
    ):
        assert ResultCodec(annotation).dump(value) is None
        assert list(inner) == [1]


def test_a_result_that_the_annotation_no_longer_holds_is_not_restored() -> None:
    """When the step was changed between two attempts, it is run again."""
    assert ResultCodec(int).load(b'"text"') is None
    assert ResultCodec(memoryview).load(b"1") is None
