"""`asgipipe run`: what runs have left behind."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, cast

import click

from asgipipe.cli.options import config_option
from asgipipe.cli.remote import RemoteError, remote, remote_options, store_option
from asgipipe.cli.settings import resolved
from asgipipe.cli.tables import cell, duration, local_time, table
from asgipipe.errors import UserError

if TYPE_CHECKING:
    from asgipipe.tracking import Runs

_STATUSES = ("running", "completed", "failed", "canceled")
_PARTS = 1000

Json = Mapping[str, object]


@click.group()
def run() -> None:
    """List and show recorded runs, of the local store or of a running deployment."""


@run.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only runs of this status.")
@click.option("--pipeline", metavar="NAME", help="Only runs of this pipeline.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Read on where another list has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
@config_option
@remote_options
def list_runs(
    *,
    status: str | None,
    pipeline: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    store: str | None,
    config_file: str | None,
    url: str | None,
    key: str | None,
) -> None:
    """List recorded runs, newest first."""
    query = {"status": status, "pipeline": pipeline, "limit": limit, "cursor": cursor}
    if url is not None:
        page: Json = remote(url, key, store, config_file).get("runs", query=query)
    else:
        with closing(_local(store, config_file)) as runs:
            found = runs.list(status=status, pipeline=pipeline, limit=limit, cursor=cursor)
            page = json.loads(found.as_json())
    if as_json:
        click.echo(json.dumps(page, indent=2))
        return
    rows = cast("Sequence[Json]", page["runs"])
    if not rows:
        click.echo("No recorded runs.")
        return
    for line in table(("RUN", "PIPELINE", "STATUS", "STARTED", "TOOK", "ERROR"), [_row(one) for one in rows]):
        click.echo(line)
    if page["next_cursor"] is not None:
        click.echo(f"There are more: --cursor {page['next_cursor']}")


@run.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
@config_option
@remote_options
def show(
    *, run_id: str, as_json: bool, store: str | None, config_file: str | None, url: str | None, key: str | None
) -> None:
    """Show a recorded run: steps, payloads, metadata and log records."""
    try:
        document = _document(run_id, store, config_file, url, key)
    except RemoteError as error:
        if error.status != 404:
            raise
        document = None
    if document is None:
        raise UserError(f"there is no recorded run {cell(run_id)}")
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for line in _page(document):
        click.echo(line)


def _document(run_id: str, store: str | None, config_file: str | None, url: str | None, key: str | None) -> Json | None:
    if url is not None:
        return remote(url, key, store, config_file).get("runs", run_id, query={"limit": _PARTS})
    with closing(_local(store, config_file)) as runs:
        found = runs.get(run_id.lower(), limit=_PARTS)
        return None if found is None else cast("Json", json.loads(found.as_json()))


def _local(store: str | None, config_file: str | None) -> "Runs":
    from asgipipe.tracking import Runs

    values = {} if store is None else {"store_url": store}
    settings = resolved(config_file, values).settings
    return Runs(settings.store_url, artifact_url=settings.artifact_url)


def _row(one: Json) -> tuple[str, ...]:
    return (
        str(one["run_id"]),
        str(one["pipeline_name"]),
        str(one["status"]),
        local_time(cast("str", one["started_at"])),
        duration(cast("float | None", one["execution_time"])),
        cell(str(one["error"] or "")),
    )


def _page(one: Json) -> list[str]:
    facts = [
        ("Run", f"{one['run_id']}  {cell(str(one['run_name']))}"),
        ("Pipeline", str(one["pipeline_name"])),
        ("Status", str(one["status"])),
        ("Attempt", str(one["attempt"])),
        ("Started", local_time(cast("str", one["started_at"]))),
        ("Took", duration(cast("float | None", one["execution_time"]))),
    ]
    facts += [(name.title(), _text(one[name])) for name in ("error", "parameters", "outputs", "metadata") if one[name]]
    lines = [f"{name:<12}{cell(value, 2000)}" for name, value in facts]
    steps = cast("Sequence[Json]", one["steps"])
    if steps:
        rows = [_step(step) for step in steps]
        lines += ["", *table(("STEP", "STATUS", "TOOK", "ATTEMPT", "OUTPUTS OR ERROR"), rows)]
    logs = cast("Sequence[Json]", one["logs"])
    if logs:
        lines += ["", *table(("TIME", "LEVEL", "STEP", "LOGGER", "MESSAGE"), [_log(log) for log in logs], widest=500)]
    more = [name for name, member in (("steps", "next_step"), ("log records", "next_log")) if one[member] is not None]
    if more:
        lines += ["", f"There are more {' and '.join(more)} than are shown here."]
    return lines


def _step(step: Json) -> tuple[str, ...]:
    return (
        f"{step['number']} {step['name']}",
        str(step["status"]),
        duration(cast("float | None", step["execution_time"])),
        str(step["attempt"]),
        _text(step["error"] or step["outputs"]),
    )


def _log(log: Json) -> tuple[str, ...]:
    return (
        local_time(cast("str", log["timestamp"])),
        str(log["level"]),
        str(log["step_name"] or ""),
        str(log["logger"]),
        str(log["message"]),
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
