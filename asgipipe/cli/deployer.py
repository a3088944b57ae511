"""`asgipipe deployer`: who provisions deployments, and with which settings."""

import json
from collections.abc import Mapping, Sequence
from time import time

import click

from asgipipe.cli import deployment_page as pages
from asgipipe.cli.desk import Desk, complete_deployers, json_option, of_registry
from asgipipe.cli.tables import table
from asgipipe.deployers import identity
from asgipipe.deployers.flavors import flavors, load_flavor, make_deployer, settings_of
from asgipipe.deployers.records import DeployerRecord
from asgipipe.errors import UserError

_WIDEST = 200
"""Characters of what a setting means."""

name_argument = click.argument("name", metavar="NAME", shell_complete=complete_deployers)
settings_option = click.option(
    "--set",
    "given",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A setting of the flavor's; 'deployer flavors' lists them. Lists and mappings as JSON.",
)


@click.group()
def deployer() -> None:
    """Register, list and delete deployers; 'local' is always there."""


@deployer.command("flavors")
@json_option
def list_flavors(*, as_json: bool) -> None:
    """List the flavors that are installed, with their settings."""
    found = {name: _fields(name) for name in sorted(flavors())}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, fields in found.items():
        click.secho(name, bold=True)
        if isinstance(fields, str):
            click.echo(f"  {fields}")
            continue
        rows = [(field, json.dumps(member["default"]), str(member["description"])) for field, member in fields.items()]
        for line in table(("SETTING", "DEFAULT", "MEANING"), rows, widest=_WIDEST):
            click.echo(f"  {line}")


@deployer.command()
@name_argument
@click.option("--flavor", required=True, metavar="FLAVOR", help="What it is: 'deployer flavors' lists them.")
@settings_option
@click.option("--no-check", is_flag=True, help="Do not try whether it works.")
@of_registry
def register(desk: Desk, /, *, name: str, flavor: str, given: tuple[str, ...], no_check: bool) -> None:
    """Register a deployer: a flavor and its settings, under a name."""
    record = DeployerRecord(name, flavor, _checked(flavor, field_values(given)), identity.actor(), time())
    if not no_check:
        make_deployer(record).check()
    desk.registry.add_deployer(record)
    click.echo(f"{name} is registered")


@deployer.command()
@name_argument
@settings_option
@of_registry
def update(desk: Desk, /, *, name: str, given: tuple[str, ...]) -> None:
    """Change settings of a deployer; deployments take them when they are provisioned next."""
    known = desk.registry.deployer(name)
    settings = _checked(known.flavor, {**known.settings, **field_values(given)})
    desk.registry.update_deployer(DeployerRecord(known.name, known.flavor, settings, identity.actor(), time()))
    click.echo(f"{name} is updated")


@deployer.command("list")
@json_option
@of_registry
def list_deployers(desk: Desk, /, *, as_json: bool) -> None:
    """List the registered deployers."""
    found = desk.registry.deployers()
    if as_json:
        click.echo(json.dumps([pages.deployer_json(each) for each in found], indent=2))
        return
    rows = [
        (each.name, each.flavor, str(len(desk.registry.deployments(deployer=each.name))), json.dumps(each.settings))
        for each in found
    ]
    for line in table(("NAME", "FLAVOR", "DEPLOYMENTS", "SETTINGS"), rows):
        click.echo(line)


@deployer.command()
@name_argument
@json_option
@of_registry
def describe(desk: Desk, /, *, name: str, as_json: bool) -> None:
    """Show a deployer: its settings, whether it works, and its deployments."""
    found = desk.registry.deployer(name)
    problem = _problem(found)
    names = [record.name for record in desk.registry.deployments(deployer=name)]
    if as_json:
        click.echo(json.dumps({**pages.deployer_json(found), "problem": problem, "deployments": names}, indent=2))
        return
    facts = [
        ("Name", found.name),
        ("Flavor", found.flavor),
        ("Works", "yes" if problem is None else f"no: {problem}"),
        ("Settings", json.dumps(found.settings, indent=2)),
        ("Deployments", ", ".join(names)),
    ]
    for line in pages.facts(facts):
        click.echo(line)


@deployer.command()
@name_argument
@click.option("--force", is_flag=True, help="Also when it has deployments that are not ABSENT.")
@of_registry
def delete(desk: Desk, /, *, name: str, force: bool) -> None:
    """Forget a deployer; refused while it has a deployment that is not ABSENT."""
    left = desk.deployments.delete_deployer(name, force=force)
    if left:
        click.secho(f"Warning: nobody can end any more what runs of {', '.join(left)}", fg="yellow", err=True)
    click.echo(f"{name} is deleted")


def _problem(record: DeployerRecord) -> str | None:
    try:
        make_deployer(record).check()
    except UserError as error:
        return str(error)
    return None


def _fields(flavor: str) -> dict[str, dict[str, object]] | str:
    try:
        schema = load_flavor(flavor).settings_class.model_json_schema()
    except UserError as error:
        return str(error)
    return {
        name: {"default": member.get("default"), "description": member.get("description", "")}
        for name, member in schema.get("properties", {}).items()
    }


def field_values(given: Sequence[str]) -> dict[str, object]:
    """Return the fields of `FIELD=VALUE`; a value that is no JSON is text."""
    found: dict[str, object] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set takes FIELD=VALUE, not {each!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[name] = value
    return found


def _checked(flavor: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that are kept: those that were given, as the flavor reads them."""
    return settings_of(flavor, values).model_dump(mode="json", exclude_unset=True)
