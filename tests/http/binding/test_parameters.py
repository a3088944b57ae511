import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated
from uuid import UUID

import pydantic
import pytest
from pydantic import AliasChoices, BaseModel, Field
from typing_extensions import TypedDict

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.bound import Bound, Limits
from tests.http.binding.conftest import Ask


class Item(BaseModel):
    name: str
    price: float = 1.0


@dataclass
class Point:
    x: int
    y: int = 0


class Tagged(TypedDict):
    tag: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def one(item: Item) -> Item:
    return item


def two(item: Item, point: Point, n: int = 0) -> list[object]:
    return [item, point, n]


def optional(item: Item | None = None) -> Item | None:
    return item


def from_field(
    items: Annotated[list[Item], Field(max_length=1)] = Field(default_factory=lambda: [Item(name="d")]),  # noqa: B008  # as users write it
) -> object:
    return items


def query(
    n: int,
    *,
    colour: Colour = Colour.RED,
    day: date | None = None,
    tags: list[str] = ["x"],  # noqa: B006  # a default that must not be shared
    flag: bool = False,
    page: Annotated[int, Field(ge=1, alias="p")] = 1,
) -> dict[str, object]:
    tags.append("seen")
    return {"n": n, "colour": colour, "day": day, "tags": tags, "flag": flag, "page": page}


QUERY_DEFAULTS = {"n": 5, "colour": "red", "day": None, "tags": ["x", "seen"], "flag": False, "page": 1}


def test_one_model_is_the_whole_body(ask: Ask) -> None:
    """A single model, dataclass, TypedDict, dict or list is the body itself."""

    def point(point: Point) -> int:
        return point.x + point.y

    def tagged(tagged: Tagged) -> str:
        return tagged["tag"]

    def mapping(values: dict[str, int]) -> int:
        return sum(values.values())

    def items(items: list[Item]) -> int:
        return len(items)

    def anything(value: object) -> object:
        return value

    assert ask(one, b'{"name": "a"}').json == {"name": "a", "price": 1.0}
    assert ask(point, b'{"x": 1, "y": 2}').json == 3
    assert ask(tagged, b'{"tag": "t"}').json == "t"
    assert ask(mapping, b'{"a": 1, "b": 2}').json == 3
    assert ask(items, b'[{"name": "a"}]').json == 1
    assert ask(anything, b'[1, {"a": null}]').json == [1, {"a": None}]


def test_several_are_members_of_the_body(ask: Ask) -> None:
    """Two models are embedded by name beside a query parameter; other members are refused."""
    body = b'{"item": {"name": "a"}, "point": {"x": 1}}'
    assert ask(two, body, query="n=7").json == [{"name": "a", "price": 1.0}, {"x": 1, "y": 0}, 7]
    assert ask(two, body[:-1] + b', "extra": 1}').places == {("body", "extra")}
    assert ask(two).places == {("body", "item"), ("body", "point")}


def test_an_empty_body_is_the_default_or_missing(ask: Ask) -> None:
    """Without a body, an optional parameter has its default and a required one is missing."""
    assert ask(optional, headers=()).json is None
    assert ask(optional, b"null").json is None
    assert ask(from_field).json == [{"name": "d", "price": 1.0}]
    assert ask(from_field, b'[{"name": "a"}, {"name": "b"}]').places == {("body",)}
    assert ask(one).places == {("body",)}


def test_bodies_are_strict(ask: Ask) -> None:
    """A body is validated strictly: no number in a string, no bool for an int; dates and enums are text."""

    class Strict(BaseModel):
        n: int
        day: date
        colour: Colour
        key: UUID

    def handler(value: Strict) -> Strict:
        return value

    good = b'{"n": 1, "day": "2024-01-01", "colour": "red", "key": "5f0e6e51-6c0c-5a3f-9c80-1f1a6ac0d3a7"}'
    assert ask(handler, good).status == 200
    for wrong in (b'"1"', b"true", b"1.5"):
        assert ask(handler, good.replace(b'"n": 1', b'"n": ' + wrong)).places == {("body", "n")}


@pytest.mark.parametrize(
    ("sent", "changed"),
    [
        ("n=5", {}),
        ("n=5&unknown=1&x=%00", {}),
        ("n=5&colour=blue&day=2024-02-29", {"colour": "blue", "day": "2024-02-29"}),
        ("n=5&tags=a&tags=b", {"tags": ["a", "b", "seen"]}),
        ("n=4&n=5", {}),
        ("n=5&flag=true&p=3", {"flag": True, "page": 3}),
    ],
)
def test_queries_fill_scalars(ask: Ask, sent: str, changed: dict[str, object]) -> None:
    """Query values are converted, defaults are new each time, unknown names are ignored, the last one counts."""
    assert ask(query, query=sent, method="GET").json == QUERY_DEFAULTS | changed
    assert ask(query, query=sent, method="GET").json == QUERY_DEFAULTS | changed


@pytest.mark.parametrize(
    ("sent", "places"),
    [
        ("", {("query", "n")}),
        ("n=x&colour=green&day=tomorrow", {("query", "n"), ("query", "colour"), ("query", "day")}),
        ("n=5&p=0", {("query", "p")}),
        ("n=5&flag=maybe", {("query", "flag")}),
        ("n=&tags=", {("query", "n")}),
    ],
)
def test_wrong_queries_are_refused(ask: Ask, sent: str, places: set[tuple[object, ...]]) -> None:
    """Every wrong query value is named, constraints included."""
    assert ask(query, query=sent, method="GET").places == places


def test_infinite_floats_are_refused_in_a_query(ask: Ask) -> None:
    """NaN and infinity come in through a query as little as through a body."""

    def handler(x: float) -> float:
        return x

    for text in ("nan", "inf", "-Infinity", "1e999"):
        assert ask(handler, query=f"x={text}").places == {("query", "x")}


def test_paths_fill_the_parameters_they_name(ask: Ask) -> None:
    """Names of the path's template come from the path, whatever type the router made of them, with constraints."""

    def handler(n: int, key: UUID, rest: str, m: int = Field(2, gt=1)) -> list[object]:
        return [n, key, rest, m]

    key = UUID("5f0e6e51-6c0c-5a3f-9c80-1f1a6ac0d3a7")
    path = "/{n}/{m}/{key}/{rest:path}"
    values: dict[str, object] = {"n": "7", "m": 3, "key": key, "rest": "a/b"}
    assert ask(handler, path=path, values=values).json == [7, str(key), "a/b", 3]
    wrong = values | {"n": "seven", "m": "1"}
    assert ask(handler, path=path, values=wrong).places == {("path", "n"), ("path", "m")}


def test_path_and_query_are_refused_together(ask: Ask) -> None:
    """One answer names what is wrong in the path and in the query."""

    def handler(n: int, m: int) -> None: ...

    assert ask(handler, path="/{n}", values={"n": "x"}, query="m=y").places == {("path", "n"), ("query", "m")}


def test_parameters_may_have_any_name(ask: Ask) -> None:
    """Names that pydantic models reserve, and positional-only parameters, work like others."""

    def handler(copy: int, /, model_config: int, schema: Item, _json: Item, *, self: int = 3) -> list[object]:
        return [copy, model_config, schema.name, _json.name, self]

    body = b'{"schema": {"name": "a"}, "_json": {"name": "b"}}'
    assert ask(handler, body, query="copy=1&model_config=2").json == [1, 2, "a", "b", 3]


def test_unannotated_parameters_are_text(ask: Ask) -> None:
    """Without annotation a parameter is a string from the query."""

    def handler(x, y="d"):  # type: ignore[no-untyped-def]
        return [x, y]

    assert ask(handler, query="x=5").json == ["5", "d"]


def test_what_a_partial_binds_stays_bound(ask: Ask) -> None:
    """A request cannot fill in what a partial has fixed."""

    def handler(key: str, x: int) -> list[object]:
        return [key, x]

    assert ask(partial(handler, key="fixed"), query="x=1&key=stolen").json == ["fixed", 1]


def test_validators_that_fail_are_failures(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """A validator that raises ValueError refuses; one that raises anything else is a logged 500."""

    def check(value: int) -> int:
        if value == 0:
            raise SystemExit("secret-of-the-validator")
        raise ValueError("never")

    def handler(x: Annotated[int, pydantic.AfterValidator(check)]) -> None: ...

    assert ask(handler, query="x=1").status == 422
    answer = ask(handler, query="x=0")
    assert answer.problem["status"] == 500
    assert b"secret" not in answer.body
    assert "secret-of-the-validator" in caplog.text


class Opaque:
    pass


class Late(BaseModel):
    x: "Undefined"  # type: ignore[name-defined]  # noqa: F821


def opaque(x: Opaque) -> None: ...
def function(x: Callable[[], int]) -> None: ...
def variadic(*x: int) -> None: ...
def options(**x: int) -> None: ...
def constrained(x: Annotated[str, Field(pattern="(")]) -> None: ...
def late(x: Late) -> None: ...
def choices(x: Annotated[int, Field(validation_alias=AliasChoices("a", "b"))]) -> None: ...
def asgi(scope, receive, send) -> None: ...  # type: ignore[no-untyped-def]
def request(request) -> None: ...  # type: ignore[no-untyped-def]
def returns_opaque(x: int) -> Opaque: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (opaque, "parameter 'x' has type Opaque, which has no JSON form"),
        (function, "parameter 'x' has type collections.abc.Callable[[], int], which has no JSON form"),
        (variadic, "parameter 'x' takes any number"),
        (options, "parameter 'x' takes any number"),
        (constrained, "parameter 'x' has type str, which cannot be served: "),
        (late, "parameter 'x' has type Late, which cannot be served: `Late` is not fully defined"),
        (choices, "parameter 'x' has a validation_alias that is no plain name"),
        (asgi, "is an ASGI application: set 'native'"),
        (request, "asks for a type of the web framework's"),
        (returns_opaque, "what it returns has type Opaque, which has no JSON form"),
    ],
)
def test_what_cannot_be_served_is_named(bound: Callable[..., Bound], handler: object, reason: str) -> None:
    """A handler that cannot be served is refused when it is bound, with its name, the parameter and its type."""
    with pytest.raises(DefinitionError, match=re.escape(reason)) as caught:
        bound(handler)
    assert handler.__name__ in str(caught.value)  # type: ignore[attr-defined]


def test_get_takes_no_body(bound: Callable[..., Bound]) -> None:
    """A parameter that needs a body is refused for GET, and a model in a path anywhere."""
    with pytest.raises(DefinitionError, match="'item' has type Item, which needs a body, and GET has none"):
        bound(one, method="GET")
    with pytest.raises(DefinitionError, match="'item' has type Item, which cannot be written in a path"):
        bound(one, path="/{item}")


def test_limits_and_types_of_the_body(ask: Ask) -> None:
    """Bodies that are too large or of another type are refused; a handler without body parameters reads none."""
    limits = Limits(max_body_size=10, receive_timeout=30, request_timeout=30)
    assert ask(one, b'{"name": "too long"}', limits=limits).problem["status"] == 413
    assert ask(one, b'{"name": "a"}', headers=()).problem["status"] == 415
    assert ask(one, b"[1").problem["status"] == 400
    assert ask(query, b"x" * 100, query="n=5", limits=limits, headers=()).status == 200
