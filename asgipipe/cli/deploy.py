"""`asgipipe deploy`: a pipeline as a service that goes on when the command has ended."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from asgipipe.cli.deployment_page import calls, deployment_json, facts
from asgipipe.cli.desk import (
    Desk,
    ask_consent,
    complete_deployers,
    confirmed,
    of_registry,
    overtake_option,
    patience_option,
)
from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.deployers.deployments import Deployed, Keys, OtherOwnerError
from asgipipe.deployers.records import Snapshot
from asgipipe.deployers.snapshots import make_snapshot

env_option = click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    help="A variable of the service's environment; NAME alone takes it from here. It is kept with the deployment.",
)
no_auth_option = click.option("--no-auth", "is_open", is_flag=True, help="Serve without a key.")
update_option = click.option("--update", is_flag=True, help="Replace what the deployment serves.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
deployer_option = click.option(
    "--deployer",
    metavar="NAME",
    help="Who provisions a new deployment.  [default: local]",
    shell_complete=complete_deployers,
)
tag_option = click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag of the snapshot.")


@click.command(cls=SettingsCommand)
@click.argument("target", metavar="TARGET")
@click.option("--name", metavar="NAME", help="The name of the deployment. The pipeline's own by default.")
@deployer_option
@config_option
@update_option
@overtake_option
@env_option
@no_auth_option
@tag_option
@patience_option
@click.option("--blocking", is_flag=True, help="Follow the log then, and end the service with this command.")
@json_option
@of_registry
@settings_options
def deploy(
    values: Values,
    desk: Desk,
    /,
    *,
    target: str,
    name: str | None,
    deployer: str | None,
    config_file: str | None,
    update: bool,
    overtake: bool,
    environment: tuple[str, ...],
    is_open: bool,
    tags: tuple[str, ...],
    blocking: bool,
    as_json: bool,
) -> None:
    """Deploy a pipeline: make a snapshot of it, have it provisioned, and wait until it is ready.

    TARGET is as for 'asgipipe serve'. A deployment that exists is replaced with --update: what serves goes on until the
    new one is ready, and when that fails, goes on. A new deployment gets a key, which is shown this once and kept for
    this user.

    A command that was interrupted or killed is repaired by running it again.
    """
    made = make_snapshot(
        target, name=None, project=Path.cwd(), config_file=config_file, values=values, environ=os.environ, tags=tags
    )
    if is_open and made.keys:
        raise click.UsageError("--no-auth, and the settings give a key: a service with a key needs it")
    chosen = name or made.snapshot.pipeline
    try:
        desk.deployments.check_deploy(chosen, deployer=deployer, update=update, overtake=overtake)
    except OtherOwnerError as error:
        ask_consent(error)
        overtake = True
    snapshot = desk.registry.add_snapshot(made.snapshot, numbered=True)
    deployed = provisioned(
        desk,
        chosen,
        snapshot,
        deployer=deployer,
        environment={**made.secrets, **variables(environment)},
        keys=Keys(made.keys, open=is_open) if made.keys or is_open else None,
        update=update,
        overtake=overtake,
    )
    show(desk, deployed, snapshot, as_json=as_json)
    if blocking:
        block(desk, chosen)


def provisioned(
    desk: Desk,
    name: str,
    snapshot: Snapshot,
    *,
    deployer: str | None,
    environment: dict[str, str],
    keys: Keys | None,
    update: bool,
    overtake: bool,
) -> Deployed:
    """Deploy a snapshot, and ask before somebody else's deployment is changed."""
    return confirmed(
        lambda consent: desk.deployments.deploy(
            name, snapshot, deployer=deployer, environment=environment, keys=keys, update=update, overtake=consent
        ),
        overtake=overtake,
    )


def show(desk: Desk, deployed: Deployed, snapshot: Snapshot, *, as_json: bool) -> None:
    """Say what was deployed, and its key if that is new."""
    record = deployed.record
    if as_json:
        document = deployment_json(record, desk.deployments.state(record), snapshot)
        click.echo(json.dumps({**document, "auth_key": deployed.key}, indent=2))
        return
    click.secho(f"{record.name} is {record.wanted.value}", fg="green", bold=True)
    for line in facts([("URL", record.url), ("Snapshot", snapshot.name), ("Deployer", record.deployer)]):
        click.echo(f"  {line}")
    if deployed.key is not None:
        click.echo(f"\n  Its key, shown this once, and kept for you in {desk.credentials.place}:\n    {deployed.key}")
    elif not record.key_digests:
        click.secho("\n  It is OPEN: everyone who can reach it can run it without a key.", fg="red", err=True)
    click.echo("\n  Try it:")
    for line in calls(record, snapshot):
        click.echo(f"    {line}")


def block(desk: Desk, name: str) -> None:
    """Follow the log of a deployment until it ends or the command is told to; end the service then."""
    try:
        for line in desk.deployments.logs(desk.registry.deployment(name), follow=True):
            click.echo(line)
    finally:
        desk.deployments.deprovision(name, overtake=True)


def variables(given: Sequence[str]) -> dict[str, str]:
    """Return the variables of `--env`."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or (not equals and name not in os.environ):
            raise click.UsageError(f"--env takes NAME=VALUE, or the NAME of a variable that is set here: not {name!r}")
        found[name] = value if equals else os.environ[name]
    return found
