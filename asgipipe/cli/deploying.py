"""What the commands that deploy something have in common."""

import json
import os
from collections.abc import Sequence

import click

from asgipipe.cli.deployment_page import calls, deployment_json, facts, serves_openly
from asgipipe.cli.desk import Desk, complete_deployers, confirmed
from asgipipe.deployers.deployments import Deployed, Keys
from asgipipe.deployers.records import Snapshot
from asgipipe.settings import is_loopback

env_option = click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    help="A variable of the service's environment; NAME alone takes it from here. It is kept with the deployment.",
)
no_auth_option = click.option("--no-auth", "is_open", is_flag=True, help="Serve without a key.")
update_option = click.option("--update", is_flag=True, help="Replace what the deployment serves.")
deployer_option = click.option(
    "--deployer",
    metavar="NAME",
    help="Who provisions a new deployment.  [default: local]",
    shell_complete=complete_deployers,
)
tag_option = click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag of the snapshot.")


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
    _warn_of_openness(desk, name, snapshot, keys)
    return confirmed(
        lambda consent: desk.deployments.deploy(
            name, snapshot, deployer=deployer, environment=environment, keys=keys, update=update, overtake=consent
        ),
        overtake=overtake,
    )


def show(desk: Desk, deployed: Deployed, snapshot: Snapshot, *, as_json: bool, key_given: bool = False) -> None:
    """Say what was deployed, and its key if that was made up; one that was given is known, and not for every log."""
    record = deployed.record
    key = None if key_given else deployed.key
    if as_json:
        document = deployment_json(record, desk.deployments.state(record), snapshot)
        click.echo(json.dumps({**document, "auth_key": key}, indent=2))
        return
    click.secho(f"{record.name} is {record.wanted.value}", fg="green", bold=True)
    for line in facts([("URL", record.url), ("Snapshot", snapshot.name), ("Deployer", record.deployer)]):
        click.echo(f"  {line}")
    if key is not None:
        click.echo(f"\n  Its key, shown this once, and kept for you in {desk.credentials.place}:\n    {key}")
    elif serves_openly(record):
        click.secho("\n  It is OPEN: everyone who can reach it can run it without a key.", fg="red", err=True)
    click.echo("\n  Try it:")
    for line in calls(record, snapshot):
        click.echo(f"    {line}")


def variables(given: Sequence[str]) -> dict[str, str]:
    """Return the variables of `--env`."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or (not equals and name not in os.environ):
            raise click.UsageError(f"--env takes NAME=VALUE, or the NAME of a variable that is set here: not {name!r}")
        found[name] = value if equals else os.environ[name]
    return found


def _warn_of_openness(desk: Desk, name: str, snapshot: Snapshot, keys: Keys | None) -> None:
    """Say before anything starts that others will reach it without a key."""
    known = desk.registry.find_deployment(name)
    is_open = keys.open if keys is not None else known is not None and serves_openly(known)
    host = snapshot.service.host
    if is_open and not is_loopback(host):
        click.secho(
            f"WARNING: {name} will be OPEN: everyone who can reach {host} can run it without a key. "
            "Deploy it without --no-auth, or with --host 127.0.0.1.",
            fg="red",
            bold=True,
            err=True,
        )
