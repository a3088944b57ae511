"""`asgipipe settings`: check, explain and describe settings without serving."""

import json
import os
from collections.abc import Iterable, Sequence

import click

from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.errors import SettingsError
from asgipipe.settings import Layer, Resolved, command_line_layer, environment_layer, resolve, yaml_file
from asgipipe.settings.explanation import Explained, explain
from asgipipe.settings.fields import printable
from asgipipe.settings.schema import file_schema

WIDEST = 60
"""Characters of a value that the table shows; `--json` shows all of it."""


@click.group()
def settings() -> None:
    """Check, explain and describe settings."""


@settings.command(cls=SettingsCommand)
@config_option
@settings_options
def check(values: Values, config_file: str | None) -> None:
    """Check the settings file, the environment and the flags given, without serving.

    Exit status 0 when they are right, 2 with one line for every mistake when they are not.
    """
    resolved(config_file, values)
    click.echo(f"{config_file or 'The settings'}: no mistakes found")


@settings.command("explain", cls=SettingsCommand)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the value and origin of each field by its path.")
@settings_options
def explain_settings(values: Values, config_file: str | None, as_json: bool) -> None:
    """Print the value of every setting and where it came from; secrets are hidden."""
    rows = explain(resolved(config_file, values))
    if as_json:
        document = {row.path: {"value": row.value, "origin": row.origin} for row in rows}
        click.echo(json.dumps(document, indent=2))
        return
    for line in _table(rows):
        click.echo(line)


@settings.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    click.echo(json.dumps(file_schema(), indent=2))


def layers(config_file: str | None, values: Values, below: Sequence[Layer] = ()) -> list[Layer]:
    """Return the layers of one command line, lowest first; `below` are those of a pipeline's own Python settings."""
    file = [yaml_file(config_file).deployment] if config_file is not None else []
    return [*below, *file, environment_layer(os.environ), command_line_layer(values)]


def resolved(config_file: str | None, values: Values, below: Sequence[Layer] = ()) -> Resolved:
    """Resolve the settings, or end the command with its mistakes on stderr, one on each line."""
    try:
        return resolve(layers(config_file, values, below))
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(error.exit_code) from None


def _table(rows: Iterable[Explained]) -> list[str]:
    cells = [("SETTING", "VALUE", "FROM"), *((row.path, _cell(row.value), printable(row.origin)) for row in rows)]
    first, second = (max(len(row[column]) for row in cells) for column in (0, 1))
    return [f"{path:<{first}}  {value:<{second}}  {origin}" for path, value, origin in cells]


def _cell(value: object) -> str:
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
