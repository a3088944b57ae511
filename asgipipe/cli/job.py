"""`asgipipe job`: what was accepted to be run, what became of it, and what happens in it."""

import json
import shutil
import sys
from collections.abc import Sequence
from typing import cast

import click

from asgipipe.cli import job_table
from asgipipe.cli.job_events import Ending, JSONLines, Narration
from asgipipe.cli.job_source import JobSource, Json, of_jobs
from asgipipe.cli.tables import cell, duration
from asgipipe.errors import UserError
from asgipipe.jobs.states import JobState

FAILED, CANCELED, INTERRUPTED = 1, 4, 130
"""Exit statuses of `follow`."""

_LONGEST_REASON = 500


@click.group()
def job() -> None:
    """List, show, cancel and follow jobs, of the local store or of a running deployment.

    The store is the one of the settings: of --config, of ASGIPIPE_STORE_URL, or .asgipipe/store.db in the working
    directory; no server has to run. JOB is the id of a job, or a beginning of it that no other job shares.
    """


@job.command("list")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([state.value for state in JobState]),
    multiple=True,
    help="Only jobs of this status. May be given several times.",
)
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Read on where another list has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@of_jobs
def list_jobs(
    source: JobSource, /, *, statuses: tuple[str, ...], limit: int, cursor: str | None, as_json: bool
) -> None:
    """List jobs, newest first."""
    page = source.page(tuple(dict.fromkeys(statuses)), limit, cursor)
    jobs = cast("Sequence[Json]", page["jobs"])
    if as_json:
        click.echo(json.dumps(page, indent=2))
    elif jobs:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in job_table.table(jobs, width):
            click.echo(line)
    if not jobs:
        click.echo(source.nothing, err=True)
    elif page.get("next_cursor") is not None and not as_json:
        click.echo(f"There are more: --cursor {cell(str(page['next_cursor']), 200)}", err=True)


@job.command()
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@of_jobs
def show(source: JobSource, /, *, job_id: str, as_json: bool) -> None:
    """Show a job: parameters, times, progress, and its result or error."""
    found = source.find(job_id)
    lines = [json.dumps(found, indent=2)] if as_json else job_table.page(found)
    for line in lines:
        click.echo(line)


@job.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Why; it is kept with the job.")
@of_jobs
@click.pass_context
def cancel(context: click.Context, source: JobSource, /, *, job_ids: tuple[str, ...], reason: str | None) -> None:
    """Cancel jobs.

    One that is pending is canceled at once. One that is running is asked to end, which it does at its next step or
    await; 'job follow' waits for that.

    The exit status is 0 when all of them are canceled or will be, and 1 when one of them has ended otherwise.
    """
    if reason is not None and len(reason) > _LONGEST_REASON:
        raise click.UsageError(f"a reason has {_LONGEST_REASON} characters at most")
    refused = 0
    for job_id in job_ids:
        try:
            found = source.cancel(str(source.find(job_id)["job_id"]), reason)
        except UserError as error:
            click.secho(f"Error: {cell(job_id)}: {error}", fg="red", err=True)
            refused += 1
        else:
            asked = ": asked to end" if found.get("status") == JobState.RUNNING else ""
            click.echo(f"{cell(str(found.get('job_id')))}  {cell(str(found.get('status')))}{asked}")
    context.exit(FAILED if refused else 0)


@job.command()
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print one event per line, as JSON.")
@of_jobs
@click.pass_context
def follow(context: click.Context, source: JobSource, /, *, job_id: str, as_json: bool) -> None:
    """Follow a job from its first event to its end.

    What the pipeline puts out goes to stdout as it comes, everything else to stderr. A deployment that cannot be
    reached any more is asked again for a minute, and the events go on where they were.

    The exit status is 0 when the job has completed, 1 when it has failed or could not be followed to its end, and 4
    when it was canceled. Ctrl-C ends the command with 130, and leaves the job alone.
    """
    found = source.find(job_id)
    followed = str(found["job_id"])
    audience = JSONLines() if as_json else Narration()
    try:
        if found.get("status") == JobState.PENDING:
            audience.notice("The job is pending: it begins when a server of its deployment has room for it.")
        source.follow(followed, audience)
        ending = audience.ending or _ending(source.find(followed))
    except KeyboardInterrupt:
        audience.clear()
        click.echo(f"The job goes on: 'asgipipe job follow {followed}' follows it, 'job cancel' ends it.", err=True)
        context.exit(INTERRUPTED)
    finally:
        audience.clear()
    context.exit(_told(followed, ending))


def _ending(found: Json) -> Ending:
    """Return how a job has ended whose last event is not to be had any more. Raises UserError for one that has not."""
    state = next((state for state in JobState if state == found.get("status")), None)
    if state is None or not state.terminal:
        raise UserError(f"the events of job {found['job_id']} ended, and it did not: it is {found.get('status')}")
    error, seconds = found.get("error"), found.get("execution_time")
    return Ending(
        state, None if error is None else str(error), float(seconds) if isinstance(seconds, int | float) else None
    )


def _told(job_id: str, ending: Ending) -> int:
    """Say how a job has ended, and return the exit status."""
    if ending.state is JobState.COMPLETED:
        took = "" if ending.execution_time is None else f" in {duration(ending.execution_time)}"
        click.secho(f"The job has completed{took}.", fg="green", err=True)
        return 0
    color, status = ("magenta", CANCELED) if ending.state is JobState.CANCELED else ("red", FAILED)
    said = f"{job_id} {ending.state}: {ending.error}" if ending.state is JobState.FAILED else str(ending.error)
    click.secho(f"Error: {cell(said, 2000)}" if status == FAILED else cell(said, 2000), fg=color, err=True)
    return status
