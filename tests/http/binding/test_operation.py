from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field, computed_field
from starlette.responses import Response

from asgipipe.http.binding.bound import Bound
from asgipipe.http.endpoint import Endpoint, Operation
from asgipipe.http.openapi import openapi_document


class Item(BaseModel):
    name: str
    parts: list["Item"] = []


class Sum(BaseModel):
    total: float = Field(1.0, alias="sum", description="All of it.")


class Area(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def size(self) -> int:
        return self.side**2


def document(path: str, method: str, bound: Bound) -> dict[str, Any]:
    """Return the whole document with this one endpoint, checked against the OpenAPI 3.1 schema."""
    endpoint = Endpoint(path, method, bound.app, "e", operation=bound.operation)
    made = openapi_document(title="t", description="", version="1", endpoints=[endpoint], has_keys=False)
    OpenAPIV31SpecValidator(made).validate()
    return made


def operation(bind: Callable[..., Bound], handler: object, path: str = "/x", method: str = "POST") -> Operation:
    made = bind(handler, path=path, method=method)
    document(path, method, made)
    return made.operation


def test_a_docstring_is_summary_and_description(bound: Callable[..., Bound]) -> None:
    """The first line of the docstring is the summary, the rest the description; without one the name is the summary."""

    def spoken() -> None:
        """Say it.

        With `care`,
        twice.
        """

    def silent() -> None: ...

    described = operation(bound, spoken)
    assert (described.operation_id, described.summary, described.description) == (
        "endpoint",
        "Say it.",
        "With `care`,\ntwice.",
    )
    assert operation(bound, silent).summary == "Endpoint"


def test_parameters_are_described(bound: Callable[..., Bound]) -> None:
    """Path and query parameters have place, need, description and schema; null is not among what can be written."""

    def handler(
        key: int,
        n: Annotated[int, Field(ge=1, le=9, description="How many.")],
        *,
        tags: list[str] = [],  # noqa: B006  # as users write it
        limit: float | None = None,
        mark: object = "a",
        other: int | str | None = 3,
    ) -> None: ...

    handler.__annotations__["mark"] = str
    found = {str(one["name"]): one for one in operation(bound, handler, "/x/{key}/{unused}").parameters}
    assert [(name, one["in"], one["required"]) for name, one in found.items()] == [
        ("key", "path", True),
        ("n", "query", True),
        ("tags", "query", False),
        ("limit", "query", False),
        ("mark", "query", False),
        ("other", "query", False),
    ]
    assert found["n"]["description"] == "How many."
    assert found["n"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 9, "title": "N"}
    assert found["limit"]["schema"] == {"type": "number", "title": "Limit"}
    assert found["other"]["schema"] == {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "default": 3,
        "title": "Other",
    }


def test_bodies_and_results_are_described(bound: Callable[..., Bound]) -> None:
    """Body and result refer to components, each in its own mode."""

    def handler(item: Item, note: dict[str, int] | None = None) -> Sum: ...  # type: ignore[empty-body]
    def whole(item: Item | None = None) -> list[Item]: ...  # type: ignore[empty-body]

    both = operation(bound, handler)
    assert both.request_body == {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "item": {"$ref": "#/components/schemas/Item"},
                        "note": {
                            "anyOf": [
                                {"type": "object", "additionalProperties": {"type": "integer"}},
                                {"type": "null"},
                            ],
                            "default": None,
                            "title": "Note",
                        },
                    },
                    "required": ["item"],
                    "additionalProperties": False,
                }
            }
        },
    }
    assert both.responses["200"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Sum"}}}
    assert "sum" in both.components["Sum"]["properties"]  # type: ignore[operator]
    assert set(both.components) == {"Item", "Sum"}
    alone = operation(bound, whole)
    assert alone.request_body is not None
    assert alone.request_body["required"] is False


def test_a_model_that_differs_by_mode_is_described_twice(bound: Callable[..., Bound]) -> None:
    """A model with a field that is computed, and so only given, has one component for each direction."""

    def handler(value: Area) -> Area:
        return value

    components = operation(bound, handler).components
    properties = {name: set(schema["properties"]) for name, schema in components.items()}  # type: ignore[call-overload]
    assert properties == {"Area-Input": {"side"}, "Area-Output": {"side", "size"}}


def test_answers_other_than_json_are_described(bound: Callable[..., Bound]) -> None:
    """Streams are text, responses anything, undeclared results any JSON."""

    def stream() -> Iterator[str]:
        yield "x"

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"

    def response() -> Response: ...  # type: ignore[empty-body]
    def mixed() -> Response | Item: ...  # type: ignore[empty-body]
    def undeclared():  # type: ignore[no-untyped-def]
        return 1

    contents = [operation(bound, one).responses["200"]["content"] for one in (stream, waiting, response, undeclared)]
    text = {"text/plain": {"schema": {"type": "string"}}}
    assert contents == [text, text, {"*/*": {}}, {"application/json": {"schema": {}}}]
    content = operation(bound, mixed).responses["200"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}, "*/*": {}}


def test_refusals_are_those_that_can_happen(bound: Callable[..., Bound]) -> None:
    """What takes nothing cannot refuse values, what takes no body cannot refuse its type."""

    def nothing() -> None: ...
    def query(n: int) -> None: ...
    def body(item: Item) -> None: ...

    always = {"200", "429", "500", "503", "504"}
    assert set(operation(bound, nothing).responses) == always
    assert set(operation(bound, query).responses) == always | {"400", "422"}
    assert set(operation(bound, body).responses) == always | {"400", "408", "413", "415", "422"}
    content = document("/x", "POST", bound(body))["components"]["responses"]["ValidationFailed"]["content"]
    assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ValidationProblem"}


def test_a_default_without_json_form_is_left_out(bound: Callable[..., Bound]) -> None:
    """A default that only Python can hold is no part of the schema, and no warning."""

    def handler(n: int = object()) -> None: ...  # type: ignore[assignment]  # a sentinel, as users write it

    (parameter,) = operation(bound, handler).parameters
    assert parameter["schema"] == {"type": "integer", "title": "N"}
