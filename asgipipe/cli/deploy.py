"""`asgipipe deploy`: a pipeline as a service that goes on when the command has ended."""

import os
from pathlib import Path

import click

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
from asgipipe.cli.desk import Desk, confirmed, json_option, of_registry, overtake_option, patience_option
from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.deployers.deployments import Keys
from asgipipe.deployers.records import DeploymentRecord, Status
from asgipipe.errors import DeploymentError


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
    from asgipipe.deployers.snapshots import make_snapshot  # the servers, which take a while to import

    added = variables(environment)
    made = make_snapshot(
        target, name=None, project=Path.cwd(), config_file=config_file, values=values, environ=os.environ, tags=tags
    )
    if is_open and made.keys:
        raise click.UsageError("--no-auth, and the settings give a key: a service with a key needs it")
    chosen = made.snapshot.pipeline if name is None else name

    def check(consent: bool) -> bool:
        desk.deployments.check_deploy(chosen, deployer=deployer, update=update, overtake=consent)
        return consent

    overtake = confirmed(check, overtake=overtake)
    snapshot = desk.registry.add_snapshot(made.snapshot, numbered=True)
    deployed = provisioned(
        desk,
        chosen,
        snapshot,
        deployer=deployer,
        environment={**made.secrets, **added},
        keys=Keys(made.keys, open=is_open) if made.keys or is_open else None,
        update=update,
        overtake=overtake,
    )
    show(desk, deployed, snapshot, as_json=as_json, key_given=bool(made.keys))
    if blocking:
        block(desk, deployed.record, log_to_stderr=as_json)


def block(desk: Desk, record: DeploymentRecord, *, log_to_stderr: bool) -> None:
    """Follow the log of what was deployed until it ends or the command is told to; end the service then.

    What another command has put in its place meanwhile is left alone. Raises DeploymentError when it has failed.
    """
    failure = None
    try:
        for line in desk.deployments.logs(record, follow=True):
            click.echo(line, err=log_to_stderr)
        failure = _failure(desk, record)
    finally:
        if _is_current(desk, record):
            desk.deployments.deprovision(record.name, overtake=True)
        else:
            click.echo(f"{record.name} was changed by another command, and is left as it is", err=True)
    if failure is not None:
        raise DeploymentError(f"{record.name} has ended: {failure}")


def _is_current(desk: Desk, record: DeploymentRecord) -> bool:
    known = desk.registry.find_deployment(record.name)
    return known is not None and known.instance == record.instance


def _failure(desk: Desk, record: DeploymentRecord) -> str | None:
    if not _is_current(desk, record):
        return None
    state = desk.deployments.state(desk.registry.deployment(record.name))
    return state.reason if state.status is Status.ERROR else None
