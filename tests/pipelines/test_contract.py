import math
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pydantic
import pytest
from pydantic import BaseModel, Field

from asgipipe import DefinitionError, OutputError, pipeline
from asgipipe.http.endpoints.invoke import InvokeBody
from asgipipe.pipelines.contract import Contract
from asgipipe.pipelines.pipeline import as_pipeline


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int = 1


@dataclass
class Point:
    x: float
    y: float


def contract_of(function: object) -> Contract:
    return as_pipeline(function).contract


def read(function: object, body: bytes) -> dict[str, object]:
    return InvokeBody(contract_of(function)).read(b'{"parameters":' + body + b"}")[0]


def everything(
    address: Address,
    names: list[str],
    scores: dict[str, float],
    pair: tuple[int, str],
    colour: Colour,
    day: date,
    maybe: int | None,
    bounded: Annotated[int, Field(ge=0, le=10, description="Between 0 and 10.")],
    *,
    tags: list[str] = [],  # noqa: B006 - each run gets its own copy
    limit: float = 1.5,
) -> dict[str, str]:
    tags.append("seen")
    return {"address": type(address).__name__, "colour": type(colour).__name__, "day": type(day).__name__}


BODY = (
    b'{"address":{"street":"Main"},"names":["a"],"scores":{"x":1},"pair":[1,"b"],"colour":"red","day":"2026-01-02",'
    b'"maybe":null,"bounded":3}'
)


def test_parameters_arrive_as_the_types_of_the_signature() -> None:
    """Models, containers, enums and dates are made from JSON; defaults are filled in."""
    assert read(everything, BODY) == {
        "address": Address(street="Main"),
        "names": ["a"],
        "scores": {"x": 1.0},
        "pair": (1, "b"),
        "colour": Colour.RED,
        "day": date(2026, 1, 2),
        "maybe": None,
        "bounded": 3,
        "tags": [],
        "limit": 1.5,
    }


def test_a_mutable_default_is_fresh_for_every_run() -> None:
    """What one run does to its default never shows in the next one."""
    first = read(everything, BODY)
    contract_of(everything).by_name(everything)(**first)
    assert first["tags"] == ["seen"]
    assert read(everything, BODY)["tags"] == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ((b'"bounded":3', b'"bounded":true'), "int_type"),
        ((b'"bounded":3', b'"bounded":"3"'), "int_type"),
        ((b'"bounded":3', b'"bounded":11'), "less_than_equal"),
        ((b'"names":["a"]', b'"names":"a"'), "list_type"),
        ((b'"colour":"red"', b'"colour":"green"'), "enum"),
        ((b'"bounded":3', b'"bounded":3,"unknown":1'), "extra_forbidden"),
        ((b',"bounded":3', b""), "missing"),
    ],
)
def test_what_the_schema_does_not_say_is_refused(change: tuple[bytes, bytes], kind: str) -> None:
    """Validation is strict in JSON mode, and unknown parameters are refused."""
    from asgipipe.errors import ValidationError

    with pytest.raises(ValidationError) as refused:
        read(everything, BODY.replace(*change))
    assert [error["type"] for error in refused.value.errors or ()] == [kind]


def test_the_input_schema_describes_the_parameters() -> None:
    """Required ones, defaults, constraints and descriptions are in the JSON schema."""
    schema: dict[str, Any] = contract_of(everything).input_schema
    assert set(schema["required"]) == {"address", "names", "scores", "pair", "colour", "day", "maybe", "bounded"}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["bounded"] == {
        "description": "Between 0 and 10.", "maximum": 10, "minimum": 0, "title": "Bounded", "type": "integer",
    }  # fmt: skip
    assert schema["properties"]["limit"]["default"] == 1.5
    assert contract_of(everything).required is True


def test_a_field_as_default_is_understood() -> None:
    """`x: int = Field(3, ge=1)` is a parameter with the default 3 and a constraint."""

    def scored(x: int = Field(3, ge=1), y: int = Field(ge=0)) -> int:
        return x + y

    assert read(scored, b'{"y":1}') == {"x": 3, "y": 1}
    assert contract_of(scored).input_schema["required"] == ["y"]


def test_parameter_names_are_never_reserved() -> None:
    """Names that pydantic models use themselves, and private ones, are ordinary parameters."""

    def odd(schema: str, json: int, copy: bool, model_config: str, _private: int = 1) -> str:
        return schema

    assert read(odd, b'{"schema":"s","json":1,"copy":true,"model_config":"m"}')["_private"] == 1


def test_positional_only_and_variadic_parameters() -> None:
    """Positional-only parameters are passed by position; *args and **kwargs take nothing from a request."""

    def mixed(a: int, /, b: int, *args: int, c: int = 3, **kwargs: int) -> list[object]:
        return [a, b, args, c, kwargs]

    contract = contract_of(mixed)
    assert contract.by_name(mixed)(**read(mixed, b'{"b":2,"a":1}')) == [1, 2, (), 3, {}]


def test_unannotated_parameters_take_any_json() -> None:
    """A callable without annotations takes whatever JSON there is."""

    def untyped(x, y=2):  # type: ignore[no-untyped-def]
        return x

    assert read(untyped, b'{"x":{"a":[1,null,"b"]}}') == {"x": {"a": [1, None, "b"]}, "y": 2}


def test_models_describe_an_untyped_callable() -> None:
    """input_model gives the parameters, and refuses unknown ones; output_model gives the schema of the output."""

    class Question(BaseModel):
        text: str
        size: int = 2

    class Answer(BaseModel):
        length: int

    def untyped(text, size):  # type: ignore[no-untyped-def]
        return {"length": len(text) * size}

    served = pipeline(input_model=Question, output_model=Answer)(untyped)
    body = InvokeBody(served.contract)
    parameters = body.read(b'{"parameters":{"text":"abc"}}')[0]
    assert parameters == {"text": "abc", "size": 2}
    assert served.contract.dump_parameters(parameters) == b'{"text":"abc","size":2}'
    with pytest.raises(Exception, match="refused"):
        body.read(b'{"parameters":{"text":"abc","sizee":3}}')
    output: dict[str, Any] = served.contract.output_schema
    assert output["properties"]["output"] == {"$ref": "#/$defs/Answer"}


class NoJSON:
    pass


def test_types_without_a_json_form_are_refused_by_name() -> None:
    """The error names the pipeline, the parameter or output, and the type."""

    def takes(thing: NoJSON) -> int:
        return 1

    def gives(x: int) -> NoJSON:
        return NoJSON()

    def defaulted(x: object = NoJSON()) -> int:
        return 1

    with pytest.raises(DefinitionError, match="'takes': parameter 'thing' has type NoJSON"):
        contract_of(takes)
    with pytest.raises(DefinitionError, match="'gives': output 'output' has type NoJSON"):
        contract_of(gives)
    with pytest.raises(DefinitionError, match="'defaulted': the default of parameter 'x' is a NoJSON"):
        contract_of(defaulted)


def anything(x: int) -> Any:
    return x


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (math.nan, b"null"),
        ([math.inf, {"a": -math.inf}], b'[null,{"a":null}]'),
        (10**400, str(10**400).encode()),
        (b"text", b'"text"'),
        (Decimal("1.50"), b'"1.50"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Point(1.0, math.nan), b'{"x":1.0,"y":null}'),
        ({1: "a"}, b'{"1":"a"}'),
        ((1, {2}), b"[1,[2]]"),
        (None, b"null"),
    ],
)
def test_outputs_are_written_as_valid_json(value: object, json: bytes) -> None:
    """Odd values have a JSON form; NaN and infinity become null."""
    assert contract_of(anything).dump_outputs(value) == b'{"output":' + json + b"}"


def cycle() -> object:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [object(), "\ud800", b"\xff", cycle(), {"a": NoJSON()}, lambda: 1])
def test_an_output_without_a_json_form_is_named(value: object) -> None:
    """The run fails with the name of the output, never with its value."""
    with pytest.raises(OutputError, match=r"^output 'output' of type .* is not serialisable as JSON$"):
        contract_of(anything).dump_outputs(value)


def test_outputs_are_counted() -> None:
    """A tuple of another length than declared fails the run and says what was declared."""

    def two(x: int) -> tuple[Annotated[int, "low"], Annotated[int, "high"]]:
        return (x, x + 1, x + 2)  # type: ignore[return-value]  # what the test is about

    contract = contract_of(two)
    assert contract.dump_outputs((1, 2)) == b'{"low":1,"high":2}'
    with pytest.raises(OutputError, match="returned 3 values, but declares the outputs low, high"):
        contract.dump_outputs(two(1))


def test_the_default_values_are_the_users() -> None:
    """A default of another type than annotated is passed on as it is, as Python would."""

    def lenient(x: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013 - what the test is about
        return x

    assert read(lenient, b"{}") == {"x": None}


def test_infinite_numbers_are_refused_anywhere() -> None:
    """1e400 overflows to infinity, which has no JSON form to echo."""
    from asgipipe.errors import HTTPError

    def untyped(x: Any) -> int:
        return 1

    for body in (b'{"x":1e400}', b'{"x":[{"y":-1e999}]}', b'{"x":NaN}', b'{"x":{"a":Infinity}}'):
        with pytest.raises(HTTPError) as refused:
            read(untyped, body)
        assert refused.value.status in (400, 422)


def test_a_model_may_allow_extra_fields() -> None:
    """A model that says itself what it does with unknown fields is left alone."""

    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        x: int

    def untyped(**kwargs):  # type: ignore[no-untyped-def]
        return sorted(kwargs)

    served = pipeline(input_model=Open)(untyped)
    parameters = InvokeBody(served.contract).read(b'{"parameters":{"x":1,"y":2}}')[0]
    assert served.contract.by_name(served.function)(**parameters) == ["x", "y"]
