import json
import re
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from asgipipe import step
from asgipipe.errors import OutputError, RunCanceled, RunTimeoutError
from asgipipe.pipelines.context import Environment, Run, Status
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.service.deployment import DeploymentResponse
from asgipipe.service.envelope import EnvelopeWriter
from tests.http.wire import ask, ask_one, invoke

DEPLOYMENT = DeploymentResponse(id="d-1", name='a "name"', snapshot_id="s-1", pipeline_name="p", auth_enabled=False)


def written(*, error_messages: bool = True, **changes: object) -> dict[str, Any]:
    run = Run("run-1", "na\tme", {}, Environment(ThreadExecutor(1)))
    for name, value in changes.items():
        setattr(run, name, value)
    envelope: dict[str, Any] = json.loads(EnvelopeWriter(DEPLOYMENT, error_messages=error_messages).write(run))
    return envelope


def test_a_finished_run() -> None:
    """Texts of any kind are escaped, and the parts of the answer are where they belong."""
    envelope = written(
        outputs_json=b'{"a":1}', parameters_json=b'{"x":2}', execution_time=1.25, status=Status.COMPLETED
    )
    assert envelope == {
        "success": True,
        "outputs": {"a": 1},
        "execution_time": 1.25,
        "metadata": {
            "deployment_id": "d-1",
            "deployment_name": 'a "name"',
            "snapshot_id": "s-1",
            "snapshot_name": None,
            "pipeline_name": "p",
            "run_id": "run-1",
            "run_name": "na\tme",
            "parameters_used": {"x": 2},
        },
        "error": None,
    }


@pytest.mark.parametrize("error_messages", [True, False])
def test_what_is_ours_is_always_told(error_messages: bool) -> None:
    """`error_messages` hides what the pipeline raised, not that the deadline passed."""
    late = written(status=Status.TIMED_OUT, error=RunTimeoutError(2.5), error_messages=error_messages)
    assert late["error"] == "the run did not finish within 2.5 s"
    canceled = written(status=Status.CANCELED, error=RunCanceled("enough"), error_messages=error_messages)
    assert canceled["error"] == "the run was cancelled: enough"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such city"), "no such city"),
        (ValueError(), "the pipeline failed without a message"),
        (ValueError("  "), "the pipeline failed without a message"),
        (ValueError("\ud800"), "?"),
        (
            OutputError("output 'a' of type object is not serialisable as JSON"),
            "output 'a' of type object is not serialisable as JSON",
        ),
        (ValueError("x" * 20_000_000), "x" * 2000 + "… (20000000 characters)"),
    ],
)
def test_the_message_of_a_failed_run(error: Exception, told: str) -> None:
    """It is the exception's own, bounded, and has a UTF-8 form."""
    envelope = written(status=Status.FAILED, error=error)
    assert (envelope["success"], envelope["outputs"], envelope["error"]) == (False, None, told)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.1234567, 12345.678901])
def test_the_execution_time_is_a_json_number(seconds: float) -> None:
    """Seconds with six decimals, never in a form that JSON does not know."""
    assert written(outputs_json=b"{}", execution_time=seconds)["execution_time"] == pytest.approx(seconds, abs=1e-6)


def echo(x: int = 1) -> int:
    return x


def test_the_default_run_name() -> None:
    """It is the pipeline's name and the time in UTC; ids and names of two runs differ."""
    before = datetime.now(UTC).replace(microsecond=0)
    first, second = (reply.json()["metadata"] for reply in ask(echo, {}, invoke(), invoke()))
    match = re.fullmatch(r"echo-(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)", first["run_name"])
    assert match
    assert before <= datetime.fromisoformat(match[1]) <= datetime.now(UTC)
    assert first["run_name"] != second["run_name"]
    assert UUID(first["run_id"]).version == 7
    assert first["run_id"] < second["run_id"]


@pytest.mark.parametrize("name", ["mine", 'ä\n"\\ 🚀', "x" * 255, "\u2028", "\x00"])
def test_a_given_run_name_comes_back(name: str) -> None:
    """Whatever characters it holds."""
    reply = ask_one(echo, invoke({"run_name": name}))
    assert reply.json()["metadata"]["run_name"] == name


class Kind(Enum):
    A = "a"


class Config(BaseModel):
    rate: float = 0.5
    kind: Kind = Kind.A


def test_parameters_used_holds_all_of_them_as_json() -> None:
    """Defaults, also those inside models, and as what they were read as, before the pipeline could change them."""

    def changing(config: Config, when: datetime, names: list[str] = [], top: float = 1.0) -> int:  # noqa: B006  # a copy for each run
        names.append("changed")
        config.rate = 9
        return 1

    body = {"parameters": {"config": {}, "when": "2026-01-02T03:04:05Z"}}
    for reply in ask(changing, {}, invoke(body), invoke(body)):
        assert reply.json()["metadata"]["parameters_used"] == {
            "config": {"rate": 0.5, "kind": "a"},
            "when": "2026-01-02T03:04:05Z",
            "names": [],
            "top": 1.0,
        }


# Odd outputs: valid JSON, or an error that names the output


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    x: float


class Failing:
    def __repr__(self) -> str:
        raise ValueError("not shown")


def cycle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


ODD: list[tuple[object, object]] = [
    (Constants(x=float("nan")), {"x": None}),
    ([Constants(x=float("-inf"))], [{"x": None}]),
    ({"a": float("inf"), 1: "b"}, {"a": None, "1": "b"}),
    ("NaN, Infinity", "NaN, Infinity"),
    (10**300, 10**300),
    ({1, 2}, [1, 2]),
    ((1, None), [1, None]),
    (b"text", "text"),
    (Kind.A, "a"),
    (None, None),
    ("\u2028\x00\x7f", "\u2028\x00\x7f"),
    ("🚀", "🚀"),
]


@pytest.mark.parametrize(("value", "expected"), ODD)
def test_odd_outputs(value: object, expected: object) -> None:
    """They have a JSON form, and arrive in it."""

    def odd() -> Any:  # as undecided as the table
        return value

    reply = ask_one(odd, invoke())
    assert reply.status == 200
    assert json.loads(reply.body, parse_constant=pytest.fail)["outputs"] == {"output": expected}


@pytest.mark.parametrize(
    "value", [object(), Failing(), cycle(), b"\xff", "a\ud800", {"\ud800": 1}, {object(): 1}, nested(10_000), lambda: 1]
)
def test_outputs_without_json_form(value: object) -> None:
    """The run has failed, and the error names the output and its type, never the value."""

    def odd() -> Any:  # as undecided as the list
        return value

    reply = ask_one(odd, invoke())
    assert reply.status == 500
    kind = type(value).__name__
    assert reply.json()["error"] == f"output 'output' of type {kind} is not serialisable as JSON"


def test_the_right_output_is_named() -> None:
    """Of several outputs, the one at fault."""

    @step
    def several() -> tuple[Annotated[int, "good"], Annotated[Any, "bad"]]:
        return 1, object()

    def two() -> tuple[Annotated[int, "good"], Annotated[Any, "bad"]]:
        return several()

    assert ask_one(two, invoke()).json()["error"] == "output 'bad' of type object is not serialisable as JSON"


def test_a_serialiser_that_fails() -> None:
    """A serialiser of the user's that raises is an output that cannot be serialised: the value, which it may have been
    there to hide, is not sent in another form.
    """

    def raising(value: int) -> str:
        raise ValueError("inside /srv/secret")

    def odd() -> Annotated[int, PlainSerializer(raising)]:
        return 1234

    reply = ask_one(odd, invoke())
    assert reply.status == 500
    assert reply.json()["error"] == "output 'output' of type int is not serialisable as JSON"
    assert b"1234" not in reply.body


def test_aliases_are_what_the_schema_says() -> None:
    """An output model with aliases is written with them, as the schema in the OpenAPI document has them."""

    class Out(BaseModel):
        value: int = Field(serialization_alias="theValue")

    def aliased() -> Out:
        return Out(value=1)

    assert ask_one(aliased, invoke()).json()["outputs"] == {"output": {"theValue": 1}}
