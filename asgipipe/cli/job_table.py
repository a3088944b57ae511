"""Jobs as people read them: a table that fits the terminal, and a page for one of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import click

from asgipipe.cli.job_source import Json
from asgipipe.cli.tables import WIDEST, cell, duration, local_time
from asgipipe.settings.fields import printable

COLORS = {"pending": "yellow", "running": "blue", "completed": "green", "failed": "red", "canceled": "magenta"}

_GAP = 2
_NARROWEST = 10
"""Characters of an error that are worth a column."""


@dataclass(frozen=True, slots=True)
class _Column:
    """`rank` says which column goes first where the terminal is too narrow: the highest; that of rank 0 never does."""

    head: str
    rank: int
    cells: Sequence[str]

    @property
    def width(self) -> int:
        return max(len(self.head), *map(len, self.cells))


def table(jobs: Sequence[Json], width: int | None) -> list[str]:
    """Return the lines of a table of `width` characters at most; None is as wide as it gets.

    What no job has gets no column. Errors, in the last one, are shortened before another column is left out.
    """
    columns = [
        _Column("JOB", 0, [cell(_text(job, "job_id")) for job in jobs]),
        _Column("STATUS", 0, [cell(_text(job, "status")) for job in jobs]),
        _Column("PIPELINE", 1, [cell(_text(job, "pipeline_name"), 30) for job in jobs]),
        _Column("CREATED", 3, [_time(job, "created_at") for job in jobs]),
        _Column("TOOK", 4, [_took(job) for job in jobs]),
        _Column("PROGRESS", 5, [_percent(job) for job in jobs]),
        _Column("ERROR", 2, [cell(_text(job, "error"), WIDEST if width is None else 500) for job in jobs]),
    ]
    columns = _fitted([column for column in columns if any(column.cells)], width)
    return [_line(columns, None), *(_line(columns, row) for row in range(len(jobs)))]


def _fitted(columns: list[_Column], width: int | None) -> list[_Column]:
    if width is None:
        return columns
    while len(columns) > 2:
        *firm, last = columns
        room = width - sum(column.width + _GAP for column in firm)
        if last.width <= room:
            break
        if last.head == "ERROR" and room >= _NARROWEST:
            return [*firm, _Column(last.head, last.rank, [cell(text, room) for text in last.cells])]
        columns = [column for column in columns if column.rank != max(column.rank for column in columns)]
    return columns


def _line(columns: Sequence[_Column], row: int | None) -> str:
    parts = []
    for number, column in enumerate(columns):
        text = column.head if row is None else column.cells[row]
        padded = text if number == len(columns) - 1 else f"{text:<{column.width + _GAP}}"
        colored = column.head == "STATUS" and row is not None
        parts.append(click.style(padded, COLORS.get(text)) if colored else padded)
    return "".join(parts).rstrip()


def page(job: Json) -> list[str]:
    """Return the lines that say everything about a job."""
    status = _text(job, "status")
    facts = [
        ("Job", _text(job, "job_id")),
        ("Run", _text(job, "run_name")),
        ("Pipeline", _text(job, "pipeline_name")),
        ("Status", status),
        ("Progress", _progress(job)),
        ("Attempt", _text(job, "attempt")),
        ("Created", _time(job, "created_at", zone=True)),
        ("Started", _time(job, "started_at", zone=True)),
        ("Ended", _time(job, "completed_at", zone=True)),
        ("Took", _took(job)),
        ("Canceled by", _text(job, "canceled_by")),
        ("Reason", _text(job, "cancel_reason")),
        ("Error code", _text(job, "error_code")),
    ]
    lines = [f"{name:<12}{cell(value, 500)}" for name, value in facts if value]
    lines[3] = lines[3][:12] + click.style(cell(status), COLORS.get(status))
    if job.get("error") is not None:
        lines.append(f"{'Error':<12}{_indented(_text(job, 'error'))}")
    for name in ("parameters", "result"):
        if job.get(name) is not None:
            written = json.dumps(job[name], indent=2, ensure_ascii=False)
            lines += ["", f"{name.title()}:", *map(printable, written.split("\n"))]
    return lines


def _text(job: Json, name: str) -> str:
    value = job.get(name)
    return "" if value is None else str(value)


def _number(job: Json, name: str) -> float | None:
    value = job.get(name)
    return float(value) if isinstance(value, int | float) else None


def _time(job: Json, name: str, *, zone: bool = False) -> str:
    value = job.get(name)
    return local_time(value, zone=zone) if isinstance(value, str) else ""


def _took(job: Json) -> str:
    seconds = _number(job, "execution_time")
    return "" if seconds is None else duration(seconds)


def _percent(job: Json) -> str:
    fraction = _number(_progress_of(job), "fraction")
    return "" if fraction is None else f"{fraction:.0%}"


def _progress(job: Json) -> str:
    progress = _progress_of(job)
    step, message = _text(progress, "step_name"), _text(progress, "message")
    return "  ".join(part for part in (_percent(job), step, message) if part)


def _progress_of(job: Json) -> Json:
    progress = job.get("progress")
    return cast("Json", progress) if isinstance(progress, dict) else {}


def _indented(text: str) -> str:
    return f"\n{'':<12}".join(printable(line) for line in text.split("\n"))
