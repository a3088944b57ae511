"""`asgipipe deployment`: what was deployed, how it is, and what may be done to it."""

import json
from concurrent.futures import ThreadPoolExecutor

import click

from asgipipe.cli import deployment_page as pages
from asgipipe.cli.deploying import env_option, provisioned, show, variables
from asgipipe.cli.desk import (
    Desk,
    complete_deployers,
    complete_deployments,
    complete_snapshots,
    confirmed,
    json_option,
    of_registry,
    overtake_option,
    patience_option,
)
from asgipipe.cli.invoke import invoke
from asgipipe.deployers.records import DeploymentRecord, Status

_HISTORY = 10
_AT_ONCE = 16
"""Deployments that are asked at the same time how they are."""

name_argument = click.argument("name", metavar="NAME", shell_complete=complete_deployments)


@click.group()
def deployment() -> None:
    """List, describe, invoke and manage deployments."""


deployment.add_command(invoke)


@deployment.command("list")
@click.option("--deployer", metavar="NAME", help="Only those of this deployer.", shell_complete=complete_deployers)
@click.option("--owner", metavar="NAME", help="Only those of this owner.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Read on where another list has ended.")
@json_option
@of_registry
def list_deployments(
    desk: Desk, /, *, deployer: str | None, owner: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List deployments, each with how it is now."""
    page = desk.registry.deployments(deployer=deployer, owner=owner, limit=limit, cursor=cursor)
    snapshots = {record.snapshot_id: desk.registry.snapshot(record.snapshot_id) for record in page}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        states = list(pool.map(desk.deployments.state, page))
    rows = [(record, state, snapshots[record.snapshot_id]) for record, state in zip(page, states, strict=True)]
    if as_json:
        found = [pages.deployment_json(*row) for row in rows]
        click.echo(json.dumps({"deployments": found, "next_cursor": page.next_cursor}, indent=2))
        return
    if not rows:
        click.echo(f"No deployments in {desk.registry.place}.", err=True)
        return
    for line in pages.deployment_table([(record, state, snapshot.name) for record, state, snapshot in rows]):
        click.echo(line)
    if page.next_cursor is not None:
        click.echo(f"There are more: --cursor {page.next_cursor}", err=True)


@deployment.command()
@name_argument
@json_option
@of_registry
def describe(desk: Desk, /, *, name: str, as_json: bool) -> None:
    """Show a deployment: how it is and why, what it takes and gives, how it is called and managed, its history."""
    record = desk.registry.deployment(name)
    snapshot = desk.registry.snapshot(record.snapshot_id)
    state = desk.deployments.state(record)
    history = list(desk.registry.history(record.id, limit=_HISTORY))
    commands = desk.deployments.commands(record)
    if as_json:
        document = {
            **pages.deployment_json(record, state, snapshot),
            "input_schema": snapshot.input_schema,
            "output_schema": snapshot.output_schema,
            "commands": commands,
            "history": [pages.history_json(entry) for entry in history],
        }
        click.echo(json.dumps(document, indent=2))
        return
    for line in pages.deployment_page(record, state, snapshot, history, commands):
        click.echo(line)


@deployment.command()
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they come, until the service ends.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines.")
@of_registry
def logs(desk: Desk, /, *, name: str, follow: bool, tail: int | None) -> None:
    """Print the log of a deployment."""
    for line in desk.deployments.logs(desk.registry.deployment(name), tail=tail, follow=follow):
        click.echo(line)


@deployment.command()
@name_argument
@overtake_option
@patience_option
@json_option
@of_registry
def provision(desk: Desk, /, *, name: str, overtake: bool, as_json: bool) -> None:
    """Start a deployment again, as it was last; nothing happens when it serves."""
    record = confirmed(lambda consent: desk.deployments.provision(name, overtake=consent), overtake=overtake)
    _say(desk, record, as_json=as_json)


@deployment.command()
@name_argument
@overtake_option
@json_option
@of_registry
def deprovision(desk: Desk, /, *, name: str, overtake: bool, as_json: bool) -> None:
    """End what serves, when it has finished what it has begun; the deployment stays known."""
    record = confirmed(lambda consent: desk.deployments.deprovision(name, overtake=consent), overtake=overtake)
    _say(desk, record, as_json=as_json)


@deployment.command()
@name_argument
@click.option("--force", is_flag=True, help="Forget it also when what serves cannot be ended.")
@overtake_option
@of_registry
def delete(desk: Desk, /, *, name: str, force: bool, overtake: bool) -> None:
    """End what serves, and forget the deployment, its log and its history; its snapshots stay."""
    orphaned = confirmed(
        lambda consent: desk.deployments.delete(name, overtake=consent, force=force), overtake=overtake
    )
    if orphaned is not None:
        click.secho(f"Warning: {orphaned}", fg="yellow", err=True)
    click.echo(f"{name} is deleted")


@deployment.command()
@name_argument
@click.argument("snapshot", metavar="SNAPSHOT", required=False, shell_complete=complete_snapshots)
@env_option
@overtake_option
@patience_option
@json_option
@of_registry
def update(
    desk: Desk,
    /,
    *,
    name: str,
    snapshot: str | None,
    environment: tuple[str, ...],
    overtake: bool,
    as_json: bool,
) -> None:
    """Have a deployment serve SNAPSHOT, or the same one started anew, which reads its code again.

    What serves goes on until the new one is ready, and when that fails, goes on. 'asgipipe deploy --update' makes a new
    snapshot as well.
    """
    record = desk.registry.deployment(name)
    chosen = desk.registry.snapshot(snapshot or record.snapshot_id)
    deployed = provisioned(
        desk,
        record.name,
        chosen,
        deployer=None,
        environment=variables(environment),
        keys=None,
        update=True,
        overtake=overtake,
    )
    show(desk, deployed, chosen, as_json=as_json)


@deployment.command("rotate-key")
@name_argument
@click.option("--revoke", is_flag=True, help="Let nobody in with the key before it any more.")
@overtake_option
@patience_option
@json_option
@of_registry
def rotate_key(desk: Desk, /, *, name: str, revoke: bool, overtake: bool, as_json: bool) -> None:
    """Give a deployment a new key, without a failed request.

    The key before it stays valid, so that callers can change over, until it is revoked.
    """
    rotated = confirmed(
        lambda consent: desk.deployments.rotate_key(name, revoke=revoke, overtake=consent), overtake=overtake
    )
    if as_json:
        click.echo(json.dumps({"name": rotated.record.name, "auth_key": rotated.key, "revoked": revoke}, indent=2))
        return
    click.echo(f"The new key, shown this once, and kept for you in {desk.credentials.place}:\n  {rotated.key}")
    if not revoke and len(rotated.record.key_digests) > 1:
        click.echo(f"The key before it is valid until 'asgipipe deployment rotate-key --revoke {name}'.", err=True)


def _say(desk: Desk, record: DeploymentRecord, *, as_json: bool) -> None:
    state = desk.deployments.state(record)
    if as_json:
        snapshot = desk.registry.snapshot(record.snapshot_id)
        click.echo(json.dumps(pages.deployment_json(record, state, snapshot), indent=2))
        return
    where = f" at {record.url}" if state.status is not Status.ABSENT else ""
    click.secho(f"{record.name} is {state.status.value}{where}", fg=pages.color_of(state.status))
