"""`asgipipe deployment invoke` and `asgipipe snapshot run`: a command for each, with options made from its schema."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import click

from asgipipe.cli.desk import Desk, key_of, opened
from asgipipe.cli.job_events import Narration
from asgipipe.cli.tables import cell, duration
from asgipipe.cli.typed import parameter_options, parameters_of
from asgipipe.client import DeploymentClient
from asgipipe.client.errors import InputRefusedError
from asgipipe.client.models import Invocation
from asgipipe.deployers.records import DeploymentRecord, Snapshot
from asgipipe.deployers.running import ParametersError, run_once
from asgipipe.errors import DeploymentError
from asgipipe.jobs.states import JobState

FAILED, CANCELED, INTERRUPTED = 1, 4, 130
"""Exit statuses, beside 0 for a run that has completed."""

_PATIENCE = 600.0
"""Seconds that a run may take to be answered; longer ones are for --async."""

Given = Mapping[str, object]


class RunGroup(click.Group, ABC):
    """A group with a command for each thing that can be run; which they are, the registry says."""

    own_options: Sequence[click.Option] = ()

    def list_commands(self, ctx: click.Context) -> list[str]:
        with opened(ctx.params.get("store"), quiet=True) as desk:
            return self.names(desk)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        store = ctx.params.get("store")
        with opened(store, quiet=True) as desk:
            snapshot = self.snapshot(desk, cmd_name)
        options = [*_WHOLE, *self.own_options]
        taken = {flag for option in options for flag in option.opts} | {"--help"}
        return click.Command(
            cmd_name,
            params=[*parameter_options(snapshot.input_schema, taken), *options],
            callback=partial(self.run, store, cmd_name),
            help=snapshot.description or f"Run {snapshot.pipeline}.",
            short_help=cell(snapshot.description or snapshot.pipeline),
        )

    @abstractmethod
    def names(self, desk: Desk) -> list[str]:
        """Return the names of what can be run."""

    @abstractmethod
    def snapshot(self, desk: Desk, name: str) -> Snapshot:
        """Return what is run under a name. Raises DeploymentError."""

    @abstractmethod
    def run(self, store: str | None, name: str, **given: object) -> None:
        """Run it, and end the command with what came of it."""


_WHOLE = (
    click.Option(
        ["--json", "whole"],
        metavar="JSON",
        help="The parameters as one JSON object, or '-' to read it from stdin; options of their own go before it.",
    ),
    click.Option(["--envelope"], is_flag=True, help="Print the whole answer, not the outputs alone."),
)


class DeploymentRuns(RunGroup):
    own_options = (
        click.Option(["--async", "as_job"], is_flag=True, help="Have it run as a job, and print the job's id."),
        click.Option(["--stream"], is_flag=True, help="Follow it, and print what it puts out as it comes."),
        click.Option(["--run-name"], metavar="NAME", help="The name of the run."),
        click.Option(["--timeout"], type=float, metavar="SECONDS", help="How long the run may take."),
        click.Option(["--priority"], type=int, metavar="NUMBER", help="With --async: higher ones begin earlier."),
        click.Option(["--delay"], type=float, metavar="SECONDS", help="With --async: not before that."),
    )

    def names(self, desk: Desk) -> list[str]:
        return [record.name for record in desk.registry.deployments()]

    def snapshot(self, desk: Desk, name: str) -> Snapshot:
        return desk.registry.snapshot(desk.registry.deployment(name).snapshot_id)

    def run(self, store: str | None, name: str, **given: object) -> None:
        with opened(store, quiet=True) as desk:
            record = desk.registry.deployment(name)
            key = key_of(desk, record)
        if given["as_job"] and given["stream"]:
            raise click.UsageError("--async returns at once, --stream follows: give one of the two")
        if key is None and record.key_digests:
            raise DeploymentError(f"you have no key of {name!r}: set ASGIPIPE_KEY")
        with DeploymentClient(_url(record), auth_key=key, timeout=_PATIENCE) as client:
            try:
                _run(client, given)
            except InputRefusedError as error:
                raise ParametersError(str(error)) from None


class SnapshotRuns(RunGroup):
    def names(self, desk: Desk) -> list[str]:
        return [snapshot.name for snapshot in desk.registry.snapshots()]

    def snapshot(self, desk: Desk, name: str) -> Snapshot:
        return desk.registry.snapshot(name)

    def run(self, store: str | None, name: str, **given: object) -> None:
        with opened(store, quiet=True) as desk:
            snapshot = desk.registry.snapshot(name)
        answer = run_once(snapshot, parameters_of(given, cast("str | None", given["whole"])))
        _end(Invocation.model_validate_json(answer), envelope=bool(given["envelope"]))


_store = click.Option(
    ["--store"],
    metavar="STORE",
    help="Where deployments are registered, as the setting store_url. By default ASGIPIPE_STORE_URL, or "
    ".asgipipe/store.db in the working directory.",
)

invoke = DeploymentRuns(
    "invoke",
    params=[_store],
    callback=lambda store: None,
    subcommand_metavar="NAME [OPTIONS]",
    help="""Run what a deployment serves, with an option for each of its parameters.

    'asgipipe deployment invoke NAME --help' lists them. The outputs are printed as JSON. The key is the one that is
    kept for you, or that of ASGIPIPE_KEY.

    The exit status is 0 when the run has completed, 1 when it has failed, 2 when the parameters are wrong, and 4 when
    the run was canceled.
    """,
    short_help="Run what a deployment serves.",
)

run = SnapshotRuns(
    "run",
    params=[_store],
    callback=lambda store: None,
    subcommand_metavar="SNAPSHOT [OPTIONS]",
    help="""Run a snapshot once, here, with an option for each of its parameters; nothing is served.

    'asgipipe snapshot run SNAPSHOT --help' lists them. The outputs are printed as JSON. The exit status is 0 when the
    run has completed, 1 when it has failed, and 2 when the parameters are wrong.
    """,
    short_help="Run a snapshot once, here.",
)


def _url(record: DeploymentRecord) -> str:
    if record.url is None:
        raise DeploymentError(
            f"nothing of {record.name!r} was ever started: run 'asgipipe deployment provision {record.name}'"
        )
    return record.url


def _run(client: DeploymentClient, given: Given) -> None:
    if given["as_job"]:
        click.echo(_submitted(client, given))
    elif given["stream"]:
        _stream(client, given)
    else:
        _end(_invoked(client, given), envelope=bool(given["envelope"]))


def _parameters(given: Given) -> dict[str, object]:
    return parameters_of(given, cast("str | None", given["whole"]))


def _invoked(client: DeploymentClient, given: Given) -> Invocation:
    return client.invoke(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
        raise_on_failure=False,
    )


def _submitted(client: DeploymentClient, given: Given) -> str:
    handle = client.submit(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
        priority=cast("int | None", given["priority"]),
        delay=cast("float | None", given["delay"]),
    )
    return handle.job_id


def _stream(client: DeploymentClient, given: Given) -> None:
    """Follow a run to its end; who goes away before that, cancels it."""
    narration = Narration()
    stream = client.stream(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
    )
    try:
        for event in stream:
            narration.event(event.model_dump(mode="json"))
    except KeyboardInterrupt:
        narration.clear()
        click.echo("The run is canceled.", err=True)
        raise
    finally:
        narration.clear()
    ending = narration.ending
    if ending is not None and ending.state is not JobState.COMPLETED:
        click.secho(f"Error: {cell(str(ending.error), 2000)}", fg="red", err=True)
        raise click.exceptions.Exit(CANCELED if ending.state is JobState.CANCELED else FAILED)


def _end(invocation: Invocation, *, envelope: bool) -> None:
    """Print what came of a run, and end the command with the status that says it."""
    if envelope:
        click.echo(json.dumps(invocation.model_dump(mode="json"), indent=2, ensure_ascii=False))
    elif invocation.success:
        click.echo(json.dumps(invocation.outputs, indent=2, ensure_ascii=False))
    if invocation.success:
        click.secho(f"The run has completed in {duration(invocation.execution_time)}.", fg="green", err=True)
        return
    click.secho(f"Error: {cell(str(invocation.error), 2000)}", fg="red", err=True)
    raise click.exceptions.Exit(FAILED)
