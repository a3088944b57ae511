import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_serializer
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from asgipipe.http.types import Receive, Scope, Send
from tests.http.binding.conftest import Ask


class Public(BaseModel):
    name: str
    score: float = 0.0
    private: int = Field(0, exclude=True)
    kind: str = Field("k", alias="type")


class Secret(Public):
    password: str = "hunter2"


@dataclass
class Point:
    x: int


class Loose(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    x: float


class Surrogate(BaseModel):
    text: str = "\ud800"


class Rude(BaseModel):
    x: int = 1

    @field_serializer("x")
    def leave(self, value: int) -> int:
        raise LookupError("not today")


def typed(value: object, annotation: object) -> Callable[[], object]:
    def handler() -> object:
        return value

    handler.__annotations__["return"] = annotation
    return handler


@pytest.mark.parametrize(
    ("value", "annotation", "json"),
    [
        (None, None, None),
        ("text", str, "text"),
        (Public(name="a"), Public, {"name": "a", "score": 0.0, "type": "k"}),
        (Secret(name="a"), Public, {"name": "a", "score": 0.0, "type": "k"}),
        ([Point(1)], list[Point], [{"x": 1}]),
        ({"a": (1, 2)}, dict[str, tuple[int, int]], {"a": [1, 2]}),
        (3, str, 3),
        (math.nan, float, None),
        ([math.inf, {"x": -math.inf}], list[object], [None, {"x": None}]),
        (Loose(x=math.nan), Loose, {"x": None}),
        ({"NaN": Loose(x=1)}, dict[str, Loose], {"NaN": {"x": 1.0}}),
        (True, Annotated[bool, "named"], True),
    ],
)
def test_results_become_json(ask: Ask, value: object, annotation: object, json: object) -> None:
    """A result is serialised by its declared type, else by its own; what JSON has no number for is null."""
    answer = ask(typed(value, annotation))
    assert (answer.status, answer.headers[b"content-type"], answer.json) == (200, b"application/json", json)


def test_undeclared_results_are_json_too(ask: Ask) -> None:
    """Without a return annotation the value's own type decides, and nothing returned is null."""

    def nothing():  # type: ignore[no-untyped-def]
        return None

    def model():  # type: ignore[no-untyped-def]
        return {"m": Public(name="a"), "n": math.nan, "l": Loose(x=math.nan)}

    assert ask(nothing).json is None
    assert ask(model).json == {"m": {"name": "a", "score": 0.0, "type": "k"}, "n": None, "l": {"x": None}}


def cycle() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value", [object(), "\ud800", Surrogate(), Rude(), cycle(), b"\xff", {("a", "b"): object()}, lambda: 1]
)
@pytest.mark.parametrize("is_async", [True, False])
def test_what_has_no_json_form_is_a_logged_failure(
    ask: Ask, caplog: pytest.LogCaptureFixture, value: object, is_async: bool
) -> None:
    """An object, a lone surrogate, a cycle, a failing serialiser: a 500, and a log that names the handler."""

    async def waiting():  # type: ignore[no-untyped-def]
        return value

    def plain():  # type: ignore[no-untyped-def]
        return value

    handler = waiting if is_async else plain
    answer = ask(handler)
    assert answer.problem == {
        "type": "urn:asgipipe:internal",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "The server failed to answer; its log says why.",
    }
    (record,) = caplog.records
    assert handler.__name__ in record.getMessage()
    assert "not serialisable" in record.getMessage()
    assert len(record.getMessage().encode()) < 8192


class Teapot:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": [(b"x-path", scope["path"].encode())]})
        await send({"type": "http.response.body", "body": b"short"})


@pytest.mark.parametrize("annotation", [Response, PlainTextResponse | Public, object])
def test_responses_are_sent_as_they_are(ask: Ask, annotation: object) -> None:
    """A response of Starlette's is sent with its own status and headers, declared or not."""
    answer = ask(typed(PlainTextResponse("hi", 201, {"x-own": "1"}), annotation))
    assert (answer.status, answer.body, answer.headers[b"x-own"]) == (201, b"hi", b"1")


def test_any_asgi_application_can_be_returned(ask: Ask) -> None:
    """An object or function that speaks ASGI answers by itself, from sync and async handlers."""

    async def waiting() -> Teapot:
        return Teapot()

    assert ask(waiting).status == 418
    assert ask(typed(Teapot(), Teapot)).headers[b"x-path"] == b"/x"
    assert ask(lambda: Teapot().__call__).body == b"short"


def test_a_union_of_response_and_model(ask: Ask) -> None:
    """Where a response or a model may be returned, the model is serialised by its declared type."""
    assert ask(typed(Secret(name="a"), Response | Public)).json == {"name": "a", "score": 0.0, "type": "k"}


def test_a_response_that_fails(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """A returned application that fails before it answers is a problem; after that the answer has no end."""

    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("early")

    async def body():  # type: ignore[no-untyped-def]
        yield b"some"
        raise SystemExit("late")

    assert ask(lambda: early).problem["status"] == 500
    answer = ask(lambda: StreamingResponse(body()))
    assert (answer.status, answer.body, answer.ended) == (200, b"some", False)
    assert [text in caplog.text for text in ("early", "late")] == [True, True]
