"""`asgipipe deployment invoke` and `asgipipe snapshot run`: a command for each, with options made from its schema."""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click

from asgipipe.cli.desk import KEY, Desk, key_of, opened, store_option
from asgipipe.cli.job_events import Narration
from asgipipe.cli.tables import cell, duration
from asgipipe.cli.typed import parameter_options, parameters_of, without_flag
from asgipipe.client.errors import InputRefusedError, KeyRefusedError, UnreachableError
from asgipipe.deployers.records import DeploymentRecord, Snapshot, Status
from asgipipe.errors import DeploymentError, UserError
from asgipipe.jobs.states import JobState

if TYPE_CHECKING:
    from asgipipe.client.models import Invocation
    from asgipipe.client.sync import DeploymentClient

FAILED, CANCELED = 1, 4
"""Exit statuses, beside 0 for a run that has completed."""

_PATIENCE = 600.0
"""Seconds that a run may take to be answered; longer ones are for --async."""

Given = Mapping[str, object]


class WrongParametersError(UserError):
    """Parameters that the service refused."""

    exit_code = 2


class RunGroup(click.Group, ABC):
    """A group with a command for each thing that can be run; which they are, the registry says."""

    options: ClassVar[Sequence[click.Option]]

    @classmethod
    def taken(cls) -> set[str]:
        """Return the flags that parameters cannot have."""
        return {flag for option in cls.options for flag in option.opts} | {"--help"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        with _completing(ctx), opened(ctx.params.get("store"), quiet=True) as desk:
            return self.names(desk)
        return []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        store = ctx.params.get("store")
        with _completing(ctx), opened(store, quiet=True) as desk:
            return self._command(store, cmd_name, self.snapshot(desk, cmd_name))
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what can be run, for which click would open the store once for each."""
        with opened(ctx.params.get("store"), quiet=True) as desk:
            rows = [(name, _summary(self.snapshot(desk, name))) for name in self.names(desk)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _command(self, store: str | None, name: str, snapshot: Snapshot) -> click.Command:
        schema = snapshot.input_schema
        hidden = without_flag(schema, self.taken())
        return click.Command(
            name,
            params=[*parameter_options(schema, self.taken()), *self.options],
            callback=partial(self.run, store, name),
            help=snapshot.description or f"Run {snapshot.pipeline}.",
            epilog=f"--json alone can give: {', '.join(hidden)}." if hidden else None,
            short_help=_summary(snapshot),
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


@contextmanager
def _completing(context: click.Context) -> Iterator[None]:
    """Keep quiet about mistakes while a shell completes what is being typed."""
    try:
        yield
    except (UserError, click.UsageError):
        if not context.resilient_parsing:
            raise


def _summary(snapshot: Snapshot) -> str:
    return cell(snapshot.description or snapshot.pipeline)


_WHOLE = (
    click.Option(
        ["--json", "whole"],
        metavar="JSON",
        help="The parameters as one JSON object, or '-' to read it from stdin; options of their own go before it.",
    ),
    click.Option(["--envelope"], is_flag=True, help="Print the whole answer, not the outputs alone."),
)


class DeploymentRuns(RunGroup):
    options = (
        *_WHOLE,
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
        from asgipipe.client.sync import DeploymentClient  # httpx, which takes a while to import

        if given["as_job"] and given["stream"]:
            raise click.UsageError("--async returns at once, --stream follows: give one of the two")
        with opened(store, quiet=True) as desk:
            record = desk.registry.deployment(name)
            url = _url(record)
            key = _key(desk, record)
            with (
                DeploymentClient(url, auth_key=key, timeout=_PATIENCE) as client,
                _explained(desk, record, key),
            ):
                _run(client, given)


class SnapshotRuns(RunGroup):
    options = _WHOLE

    def names(self, desk: Desk) -> list[str]:
        return [snapshot.name for snapshot in desk.registry.snapshots()]

    def snapshot(self, desk: Desk, name: str) -> Snapshot:
        return desk.registry.snapshot(name)

    def run(self, store: str | None, name: str, **given: object) -> None:
        from asgipipe.client.models import Invocation
        from asgipipe.deployers.running import run_once  # the servers, which take a while to import

        with opened(store, quiet=True) as desk:
            snapshot = desk.registry.snapshot(name)
        with redirect_stdout(sys.stderr):  # what the pipeline prints: stdout is for the outputs
            answer = run_once(snapshot, _parameters(given))
        _end(Invocation[Any].model_validate_json(answer), envelope=bool(given["envelope"]))


invoke = DeploymentRuns(
    "invoke",
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
    callback=lambda store: None,
    subcommand_metavar="SNAPSHOT [OPTIONS]",
    help="""Run a snapshot once, here, with an option for each of its parameters; nothing is served.

    'asgipipe snapshot run SNAPSHOT --help' lists them. The outputs are printed as JSON. The exit status is 0 when the
    run has completed, 1 when it has failed, and 2 when the parameters are wrong.
    """,
    short_help="Run a snapshot once, here.",
)

store_option(invoke)
store_option(run)


def _url(record: DeploymentRecord) -> str:
    if record.url is None or record.wanted is Status.ABSENT:
        raise DeploymentError(f"{record.name!r} is ABSENT: 'asgipipe deployment provision {record.name}' starts it")
    return record.url


def _key(desk: Desk, record: DeploymentRecord) -> str | None:
    key = key_of(desk, record)
    if key is None and record.key_digests:
        raise DeploymentError(
            f"there is no key of {record.name!r} in {desk.credentials.place}: set {KEY}, or have a new one made: "
            f"'asgipipe deployment rotate-key {record.name}'"
        )
    return key


@contextmanager
def _explained(desk: Desk, record: DeploymentRecord, key: str | None) -> Iterator[None]:
    """Say of a call that was refused what can be done about it here."""
    try:
        yield
    except InputRefusedError as error:
        raise WrongParametersError(str(error)) from None
    except KeyRefusedError as error:
        where = KEY if key == os.environ.get(KEY) else desk.credentials.place
        raise DeploymentError(
            f"{record.name!r} does not know the key of {where} any more, or never did: set {KEY} to one that it knows, "
            f"or have a new one made: 'asgipipe deployment rotate-key {record.name}' ({error.url})"
        ) from None
    except UnreachableError as error:
        state = desk.deployments.state(desk.registry.deployment(record.name))
        raise DeploymentError(
            f"{error}\n{record.name!r} is {state.status.value}"
            f"{f': {state.reason}' if state.reason else ''}; 'asgipipe deployment describe {record.name}' says more"
        ) from None


def _run(client: "DeploymentClient[Any]", given: Given) -> None:
    if given["as_job"]:
        click.echo(_submitted(client, given))
    elif given["stream"]:
        _stream(client, given)
    else:
        _end(_invoked(client, given), envelope=bool(given["envelope"]))


def _parameters(given: Given) -> dict[str, object]:
    return parameters_of(given, cast("str | None", given["whole"]))


def _invoked(client: "DeploymentClient[Any]", given: Given) -> "Invocation[Any]":
    return client.invoke(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
        raise_on_failure=False,
    )


def _submitted(client: "DeploymentClient[Any]", given: Given) -> str:
    handle = client.submit(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
        priority=cast("int | None", given["priority"]),
        delay=cast("float | None", given["delay"]),
    )
    return handle.job_id


def _stream(client: "DeploymentClient[Any]", given: Given) -> None:
    """Follow a run to its end; who goes away before that, cancels it."""
    narration = Narration()
    said = False
    with client.stream(
        _parameters(given),
        run_name=cast("str | None", given["run_name"]),
        timeout=cast("float | None", given["timeout"]),
    ) as stream:
        try:
            for event in stream:
                narration.event(event.model_dump(mode="json"))
                said = said or event.event_type == "output_delta"
        except BaseException as error:
            narration.clear()
            if isinstance(error, KeyboardInterrupt | SystemExit):
                click.echo("The run is canceled.", err=True)
            raise
        narration.clear()
        ending = narration.ending
        if ending is not None and ending.state is JobState.CANCELED:
            click.secho(f"Error: {cell(str(ending.error), 2000)}", fg="red", err=True)
            raise click.exceptions.Exit(CANCELED)
        _end(stream.result(raise_on_failure=False), envelope=bool(given["envelope"]), silent=said)


def _end(invocation: "Invocation[Any]", *, envelope: bool, silent: bool = False) -> None:
    """Print what came of a run, and end the command with the status that says it; `silent` leaves the outputs out."""
    if envelope:
        click.echo(json.dumps(invocation.model_dump(mode="json"), indent=2, ensure_ascii=False))
    elif invocation.success and not silent:
        click.echo(json.dumps(invocation.outputs, indent=2, ensure_ascii=False))
    if invocation.success:
        click.secho(f"The run has completed in {duration(invocation.execution_time)}.", fg="green", err=True)
        return
    click.secho(f"Error: {cell(str(invocation.error), 2000)}", fg="red", err=True)
    raise click.exceptions.Exit(FAILED)
