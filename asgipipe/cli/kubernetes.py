"""`asgipipe kubernetes`: the objects of a deployment as YAML, for those who apply them with tools of their own."""

import json
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

import click

from asgipipe.cli.deployer import field_values
from asgipipe.cli.deploying import env_option, no_auth_option, variables
from asgipipe.cli.desk import Desk, complete_deployers, of_registry
from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.deployers.flavors import load_flavor, settings_of
from asgipipe.deployers.records import Snapshot, Workload
from asgipipe.deployers.snapshots import make_snapshot
from asgipipe.errors import DeploymentError, SourceError
from asgipipe.identifiers import derived
from asgipipe.settings.keys import digest_in, digest_of

_FLAVOR = "kubernetes"
_NO_KEY = "a key is made up when it is deployed"


@runtime_checkable
class Renderer(Protocol):
    """A deployer that can say what it would apply."""

    def render(self, workload: Workload, *, with_secrets: bool) -> str: ...


@click.group()
def kubernetes() -> None:
    """Render what a deployer of flavor kubernetes applies."""


@kubernetes.command(cls=SettingsCommand)
@click.argument("source", metavar="TARGET|SNAPSHOT")
@click.option("--name", metavar="NAME", help="The name of the deployment. The pipeline's own by default.")
@click.option(
    "--deployer", metavar="NAME", help="A registered deployer, for its settings.", shell_complete=complete_deployers
)
@click.option(
    "--kubernetes",
    "given",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A setting of the deployer's, such as image=ghcr.io/acme/weather:3; 'deployer flavors' lists them.",
)
@click.option("--revision", type=click.IntRange(min=1), default=1, show_default=True, help="The revision's number.")
@click.option("--with-secrets", is_flag=True, help="Print secrets, too, encoded as Kubernetes has them.")
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@env_option
@no_auth_option
@config_option
@of_registry
@settings_options
def render(
    values: Values,
    desk: Desk,
    /,
    *,
    source: str,
    name: str | None,
    deployer: str | None,
    given: tuple[str, ...],
    revision: int,
    with_secrets: bool,
    output: Path | None,
    environment: tuple[str, ...],
    is_open: bool,
    config_file: str | None,
) -> None:
    """Print the objects of a deployment as YAML documents, as they would be applied; nothing is.

    TARGET is as for 'asgipipe serve', SNAPSHOT the name of one that was made. The same input makes the same documents.
    Secrets are hidden: no cluster takes what is printed instead of them.
    """
    renderer = _renderer(desk, deployer, given)
    snapshot, secrets, keys = _snapshot(desk, source, config_file, values)
    if is_open and keys:
        raise click.UsageError("--no-auth, and the settings give a key: a service with a key needs it")
    if with_secrets and not keys and not is_open:
        raise click.UsageError("give a key (ASGIPIPE_AUTH_KEY), or --no-auth: nobody made one up for what is printed")
    workload = _workload(
        snapshot,
        name or snapshot.pipeline,
        revision,
        {**secrets, **variables(environment), **_key_variables(keys, is_open=is_open)},
    )
    text = renderer.render(workload, with_secrets=with_secrets)
    if output is None:
        click.echo(text, nl=False)
        return
    if with_secrets:
        output.touch(mode=0o600)  # before there is anything to be read in it
    output.write_text(text, encoding="utf-8")
    click.echo(f"{output} holds the objects of {workload.name}")


def _renderer(desk: Desk, deployer: str | None, given: tuple[str, ...]) -> Renderer:
    settings: dict[str, object] = {}
    if deployer is not None:
        record = desk.registry.deployer(deployer)
        if record.flavor != _FLAVOR:
            raise DeploymentError(f"deployer {deployer!r} is of flavor {record.flavor}, not {_FLAVOR}")
        settings = dict(record.settings)
    made = load_flavor(_FLAVOR)(deployer or _FLAVOR, settings_of(_FLAVOR, {**settings, **field_values(given)}))
    if not isinstance(made, Renderer):
        raise DeploymentError(f"the deployer that is installed as {_FLAVOR} has no objects to render")
    return made


def _snapshot(
    desk: Desk, source: str, config_file: str | None, values: Values
) -> tuple[Snapshot, dict[str, str], tuple[str, ...]]:
    """Return what is deployed, the variables it needs, and the keys that its settings give."""
    try:
        kept = desk.registry.snapshot(source)
    except DeploymentError as no_snapshot:
        try:
            made = make_snapshot(
                source, name=None, project=Path.cwd(), config_file=config_file, values=values, environ=os.environ
            )
        except SourceError:
            if ":" in source or Path(source).exists():
                raise
            raise no_snapshot from None
        return made.snapshot, dict(made.secrets), made.keys
    if config_file is not None or values:
        raise click.UsageError(f"{source} is a snapshot, which has its settings: give a TARGET with others")
    return kept, {}, ()


def _key_variables(keys: tuple[str, ...], *, is_open: bool) -> dict[str, str]:
    digests = [key if digest_in(key) is not None else digest_of(key) for key in keys]
    found = {"ASGIPIPE_GENERATE_AUTH_KEY": "false"}
    return found if is_open else {**found, "ASGIPIPE_AUTH_KEY": json.dumps(digests) if digests else _NO_KEY}


def _workload(snapshot: Snapshot, name: str, revision: int, environment: dict[str, str]) -> Workload:
    service = snapshot.service
    return Workload(
        deployment_id=derived("deployment", name),
        name=name,
        revision=revision,
        target=snapshot.target,
        project=snapshot.project,
        settings=snapshot.settings,
        environment=environment,
        scheme=service.scheme,
        host=service.host,
        port=service.port,
        root=service.root,
        ready_path=service.ready_path,
        drain=service.drain,
        health_path=service.health_path,
        shared_store=service.shared_store,
    )
