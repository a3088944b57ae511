import json
from datetime import date
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

from asgipipe.pipelines.example import example
from asgipipe.pipelines.pipeline import as_pipeline


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    name: Annotated[str, Field(min_length=6)]
    count: Annotated[int, Field(gt=10)]
    note: str | None = None


def many(
    text: str,
    short: Annotated[str, Field(max_length=2)],
    number: Annotated[float, Field(ge=0.5, lt=0.75)],
    whole: Annotated[int, Field(multiple_of=1, le=-3)],
    flag: bool,
    day: date,
    key: UUID,
    colour: Colour,
    choice: Literal["a", "b"],
    item: Item,
    items: Annotated[list[Item], Field(min_length=2)],
    pair: tuple[int, str],
    maybe: str | None,
    table: dict[str, int],
    given: Annotated[str, Field(examples=["Oslo"])],
    left_out: int = 3,
) -> str:
    return text


def test_the_example_is_accepted_by_the_contract() -> None:
    """The made-up parameters of every common type pass the pipeline's own validation, required ones only."""
    contract = as_pipeline(many).contract
    found = example(contract.input_schema, contract.input_schema)
    assert isinstance(found, dict)
    assert "left_out" not in found
    assert found["given"] == "Oslo"
    TypeAdapter(contract.parameters_type).validate_json(json.dumps(found), strict=True)


def test_an_endless_schema_has_an_example() -> None:
    """A type that contains itself ends at some depth."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "required": ["next"]}
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": node}}
    assert json.dumps(example(schema, schema))
