import json
from enum import Enum
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field

from asgipipe import pipeline
from asgipipe.cli.typed import arguments_for, parameter_options, parameters_of, without_flag


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Place(BaseModel):
    lat: float


@pipeline
def everything(
    city: Annotated[str, Field(description="Where.")],
    days: int = 3,
    factor: float = 1.5,
    dry_run: bool = False,
    size: Size = Size.SMALL,
    unit: Literal["C", "F"] = "C",
    tags: list[str] | None = None,
    places: list[Place] | None = None,
    place: Place | None = None,
    note: str | None = None,
    json: str = "taken",
) -> str:
    return city


def run(*arguments: str, stdin: str = "") -> dict[str, Any]:
    """Return the parameters that a command line gives, or what it says is wrong with it."""
    whole = click.Option(["--json", "whole"])
    options = [*parameter_options(everything.contract.input_schema, {"--json"}), whole]

    def callback(whole: str | None, **given: object) -> None:
        click.echo(json.dumps(parameters_of(given, whole)))

    result = CliRunner().invoke(click.Command("x", params=options, callback=callback), arguments, input=stdin)
    if result.exit_code:
        return {"error": result.output, "status": result.exit_code}
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ([], {}),
        (["--city=London"], {"city": "London"}),
        (["--city", "5", "--days", "5"], {"city": "5", "days": 5}),
        (["--factor=2"], {"factor": 2.0}),
        (["--dry-run"], {"dry_run": True}),
        (["--no-dry-run"], {"dry_run": False}),
        (["--size=large", "--unit", "F"], {"size": "large", "unit": "F"}),
        (["--tags=a", "--tags=b"], {"tags": ["a", "b"]}),
        (['--places=[{"lat": 1.5}]'], {"places": [{"lat": 1.5}]}),
        (['--place={"lat": 1.5}'], {"place": {"lat": 1.5}}),
        (["--note="], {"note": ""}),
        (['--json={"city": "Rome", "days": 1}', "--days=2"], {"city": "Rome", "days": 2}),
    ],
)
def test_options_become_parameters(arguments: list[str], parameters: dict[str, object]) -> None:
    """Each has the type of its parameter, what was not given is left to the service, and --json gives the rest."""
    assert run(*arguments) == parameters


def test_parameters_from_stdin() -> None:
    """A '-' reads the JSON object there."""
    assert run("--json", "-", stdin='{"city": "Oslo"}') == {"city": "Oslo"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--days=many"], "'many' is not a valid integer"),
        (["--size=huge"], "'huge' is not one of 'small', 'large'"),
        (["--place={lat"], "give the value as JSON"),
        (["--json=["], "Invalid value for --json"),
        (["--json=[1]"], "give a JSON object"),
        (["--citi=x"], "No such option"),
    ],
)
def test_what_is_wrong_is_a_usage_error(arguments: list[str], said: str) -> None:
    """The status is 2, and the message names the option and what it takes."""
    found = run(*arguments)
    assert found["status"] == 2
    assert said in found["error"]


def test_the_help_says_what_a_parameter_is() -> None:
    """Description, default, and that one is required."""
    options = {option.name: option.help for option in parameter_options(everything.contract.input_schema, {"--json"})}
    assert options["parameter_city"] == "Where. [required]"
    assert options["parameter_days"] == "[default: 3]"
    assert options["parameter_tags"] == "May be given several times."
    assert "parameter_json" not in options


@pytest.mark.parametrize(
    "parameters",
    [
        {"city": "-x y", "days": 2, "dry_run": True, "size": "large", "unit": "C"},
        {"dry_run": False, "tags": ["a", "b c"], "places": [{"lat": 1.5}], "place": {"lat": 0.5}},
        {"city": "Rome", "json": "has no option of its own", "note": ""},
    ],
)
def test_arguments_give_their_parameters(parameters: dict[str, object]) -> None:
    """The arguments that a description shows are those that make the parameters again, of every kind."""
    schema = everything.contract.input_schema
    assert run(*arguments_for(parameters, schema, {"--json"})) == parameters


def test_flags_that_are_taken() -> None:
    """Of two parameters with one flag the first has it; a switch takes its opposite as well, and the rest is named."""

    @pipeline
    def awkward(no_hot: bool, hot: bool, class_: int, json: str, __: int = 1) -> str:
        return json

    schema = awkward.contract.input_schema
    flags = [option.opts for option in parameter_options(schema, {"--json"})]
    assert flags == [["--no-hot"], ["--class"]]
    assert without_flag(schema, {"--json"}) == ["hot", "json", "__"]
