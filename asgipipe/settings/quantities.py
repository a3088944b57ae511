"""Numbers with a unit and a bound; `true` is not a number here."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

DAY = 86_400
MEBIBYTE = 1024 * 1024


def refuse_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "expected a number, not true or false")
    return value


Integer = Annotated[int, BeforeValidator(refuse_boolean, json_schema_input_type=int)]
Seconds = Annotated[
    float, Field(gt=0, le=7 * DAY, allow_inf_nan=False), BeforeValidator(refuse_boolean, json_schema_input_type=float)
]
Retention = Annotated[
    float,
    Field(gt=0, le=36_500 * DAY, allow_inf_nan=False),
    BeforeValidator(refuse_boolean, json_schema_input_type=float),
]
