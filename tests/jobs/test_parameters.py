from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, computed_field

from asgipipe import pipeline
from asgipipe.errors import ValidationError
from asgipipe.jobs.parameters import StoredParameters


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int
    name: Annotated[str, Field(serialization_alias="title")] = "a"

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way to write it
    @property
    def area(self) -> int:
        return self.width**2


class Holding(BaseModel):
    data: Json[dict[str, int]]


class Hiding(BaseModel):
    shown: int = 1
    hidden: Annotated[int, Field(exclude=True)] = 2


@dataclass
class Point:
    x: float
    y: tuple[int, ...] = ()


def stored(parameter: Any, given: str) -> tuple[dict[str, object], dict[str, object]]:
    """Return the value that is given as JSON, and what comes back of it from the store."""

    def keep(value: object) -> int:
        return 1

    keep.__annotations__["value"] = parameter
    parameters = StoredParameters(pipeline(keep).contract)
    value = parameters.load(b'{"value":%b}' % given.encode())
    return value, parameters.load(parameters.dump(value))


@pytest.mark.parametrize(
    ("parameter", "given"),
    [
        (int, "1"),
        (str | None, "null"),
        (Closed, '{"width":3}'),
        (list[Closed], '[{"width":3},{"width":4}]'),
        (Holding, '{"data":"{\\"a\\":1}"}'),
        (Point, '{"x":0.1,"y":[1,2]}'),
        (dict[str, Point], '{"a":{"x":1}}'),
        (SecretStr | None, "null"),
    ],
)
def test_parameters_come_back_as_they_were(parameter: object, given: str) -> None:
    """What the pipeline gets from the store is what a sync run would have got."""
    before, after = stored(parameter, given)
    assert after == before


@pytest.mark.parametrize(
    ("parameter", "given"),
    [(SecretStr, '"hunter2"'), (list[SecretStr], '["hunter2"]'), (Hiding, '{"hidden":3}')],
)
def test_what_would_not_come_back_is_refused(parameter: object, given: str) -> None:
    """A value that the store would change is named and refused, and not shown."""
    with pytest.raises(ValidationError) as caught:
        stored(parameter, given)
    (error,) = caught.value.errors or ()
    assert error["loc"] == ["parameters", "value"]
    assert "hunter2" not in str(caught.value) + str(error)


def test_an_input_model() -> None:
    """The fields of an `input_model` come back under their own names, whatever their aliases are."""

    class Asked(BaseModel):
        city: Annotated[str, Field(alias="place")] = "Oslo"
        closed: Closed

    def ask(**fields: object) -> int:
        return len(fields)

    function: Callable[..., int] = ask
    parameters = StoredParameters(pipeline(input_model=Asked)(function).contract)
    value = parameters.load(b'{"place":"Rome","closed":{"width":2}}')
    assert parameters.load(parameters.dump(value)) == value
