"""`asgipipe snapshot`: pipelines as they were, to be deployed or run."""

import json
import os
from pathlib import Path

import click

from asgipipe.cli import deployment_page as pages
from asgipipe.cli.deploying import (
    deployer_option,
    env_option,
    no_auth_option,
    provisioned,
    show,
    tag_option,
    update_option,
    variables,
)
from asgipipe.cli.desk import Desk, complete_snapshots, json_option, of_registry, overtake_option, patience_option
from asgipipe.cli.invoke import run
from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.cli.tables import cell, local_time, table
from asgipipe.deployers.deployments import Keys
from asgipipe.deployers.fingerprint import changed

name_argument = click.argument("name", metavar="SNAPSHOT", shell_complete=complete_snapshots)


@click.group()
def snapshot() -> None:
    """Create, list, deploy and run snapshots: pipelines as they were, with their settings."""


snapshot.add_command(run)


@snapshot.command(cls=SettingsCommand)
@click.argument("target", metavar="TARGET")
@click.option("--name", metavar="NAME", help="The name of the snapshot. The pipeline's and a number by default.")
@click.option("--description", metavar="TEXT", help="What it is for. By default what the pipeline says of itself.")
@tag_option
@config_option
@json_option
@of_registry
@settings_options
def create(
    values: Values,
    desk: Desk,
    /,
    *,
    target: str,
    name: str | None,
    description: str | None,
    tags: tuple[str, ...],
    config_file: str | None,
    as_json: bool,
) -> None:
    """Make a snapshot of a pipeline and its settings; TARGET is as for 'asgipipe serve'.

    Secret settings are not kept in it: give them again when it is deployed.
    """
    from asgipipe.deployers.snapshots import make_snapshot  # the servers, which take a while to import

    made = make_snapshot(
        target,
        name=name,
        project=Path.cwd(),
        config_file=config_file,
        values=values,
        environ=os.environ,
        tags=tags,
        description=description or "",
    )
    kept = desk.registry.add_snapshot(made.snapshot, numbered=name is None)
    click.echo(json.dumps(pages.snapshot_json(kept), indent=2) if as_json else f"{kept.name} is made")


@snapshot.command("list")
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
@click.option("--pipeline", metavar="NAME", help="Only those of this pipeline.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Read on where another list has ended.")
@json_option
@of_registry
def list_snapshots(
    desk: Desk, /, *, tag: str | None, pipeline: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List snapshots, newest first."""
    page = desk.registry.snapshots(tag=tag, pipeline=pipeline, limit=limit, cursor=cursor)
    if as_json:
        found = [pages.snapshot_json(each) for each in page]
        click.echo(json.dumps({"snapshots": found, "next_cursor": page.next_cursor}, indent=2))
        return
    if not page:
        click.echo(f"No snapshots in {desk.registry.place}.", err=True)
        return
    rows = [
        (each.name, each.pipeline, each.target, ", ".join(each.tags), each.created_by, _made(each.created_at))
        for each in page
    ]
    for line in table(("NAME", "PIPELINE", "TARGET", "TAGS", "BY", "MADE"), rows):
        click.echo(line)
    if page.next_cursor is not None:
        click.echo(f"There are more: --cursor {page.next_cursor}", err=True)


@snapshot.command()
@name_argument
@json_option
@of_registry
def describe(desk: Desk, /, *, name: str, as_json: bool) -> None:
    """Show a snapshot: target, settings, what it takes and gives, and whether the code has changed since."""
    found = desk.registry.snapshot(name)
    differs = changed(found)
    if as_json:
        click.echo(json.dumps({**pages.snapshot_json(found), "code_changed": differs}, indent=2))
        return
    code = "changed since" if differs else "as it was"
    lines = pages.facts(
        [
            ("Name", found.name),
            ("Pipeline", found.pipeline),
            ("Description", cell(found.description, 300)),
            ("Target", found.target),
            ("Project", found.project),
            ("Code", f"{found.fingerprint[:12]}, {code}"),
            ("Tags", ", ".join(found.tags)),
            ("Made", f"{_made(found.created_at)} by {found.created_by}"),
        ]
    )
    for line in [*lines, *pages.schema_lines(found), "", "Settings:", json.dumps(found.settings, indent=2)]:
        click.echo(line)


@snapshot.command()
@name_argument
@click.option("--name", "deployment", metavar="NAME", help="The deployment's name. The pipeline's own by default.")
@deployer_option
@update_option
@overtake_option
@env_option
@no_auth_option
@patience_option
@json_option
@of_registry
def deploy(
    desk: Desk,
    /,
    *,
    name: str,
    deployment: str | None,
    deployer: str | None,
    update: bool,
    overtake: bool,
    environment: tuple[str, ...],
    is_open: bool,
    as_json: bool,
) -> None:
    """Deploy a snapshot, as 'asgipipe deploy' does a pipeline."""
    found = desk.registry.snapshot(name)
    deployed = provisioned(
        desk,
        deployment or found.pipeline,
        found,
        deployer=deployer,
        environment=variables(environment),
        keys=Keys(open=True) if is_open else None,
        update=update,
        overtake=overtake,
    )
    show(desk, deployed, found, as_json=as_json)


@snapshot.command()
@click.argument("names", metavar="SNAPSHOT...", nargs=-1, required=True, shell_complete=complete_snapshots)
@of_registry
def delete(desk: Desk, /, *, names: tuple[str, ...]) -> None:
    """Forget snapshots; refused for one that a deployment is made from."""
    for name in names:
        desk.registry.delete_snapshot(name)
        click.echo(f"{name} is deleted")


def _made(seconds: float) -> str:
    return local_time(pages.timestamp(seconds))
