"""The table of jobs, row by row; the one place where a job's state changes."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TypedDict, Unpack, cast

from asgipipe.errors import AsgipipeError
from asgipipe.jobs.records import TERMINAL_EVENTS, Event, Job
from asgipipe.jobs.states import TRANSITIONS, JobState
from asgipipe.stores.database import Row, Transaction, Value

_NAMES = [field.name for field in fields(Job)]
_PARAMETERS = "COALESCE(parameters, (SELECT value FROM large_parameters WHERE job_id = jobs.id))"
COLUMNS = ", ".join(_PARAMETERS if name == "parameters" else name for name in _NAMES)

_INSERTION = (
    f"INSERT INTO jobs ({', '.join(_NAMES)}, delayed, keyed) VALUES ({', '.join('?' * (len(_NAMES) + 2))})"  # noqa: S608  # constants
    " ON CONFLICT (id) DO NOTHING RETURNING 1"
)

_SMALL = 4096
"""Bytes of parameters that stand in the row of their job. SQLite writes the whole row whatever changes in it, which was
4 ms for each event of a job with 4 MB of them. PostgreSQL keeps large values apart by itself."""

_FORGOTTEN_AT_MOST = 10_000
"""How many old events one operation removes, besides as many as it adds: what takes long keeps others waiting."""


class StaleAttemptError(AsgipipeError):
    """The attempt is no longer the one that owns its job: nothing was written, and what it does matters no more."""

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(job_id, attempt)
        self.job_id = job_id
        self.attempt = attempt

    def __str__(self) -> str:
        return f"attempt {self.attempt} of job {self.job_id} is not its owner any more"


class Changes(TypedDict, total=False):
    """What may change together with a job's state."""

    due_at: float
    started_at: float
    completed_at: float
    execution_time: float | None
    attempt: int
    losses: int
    failures: int
    owner: int | None
    first_event: int
    last_event: int
    progress: bytes | None
    result: bytes
    error: str | None
    error_code: str | None
    canceled_by: str | None
    cancel_reason: str | None


def job_of(row: Row) -> Job:
    job = Job(*row)  # type: ignore[arg-type]  # the columns are the fields, in order
    return replace(job, state=JobState(job.state), cancel_requested=bool(job.cancel_requested))


def locking(transaction: Transaction, *, skip: bool = False) -> str:
    """Return what ends a query whose rows are changed next, where other transactions may do the same at once.

    With `skip` it passes by the rows that another one is about to change.
    """
    if transaction.dialect == "sqlite":  # one transaction writes at a time
        return ""
    return " FOR UPDATE SKIP LOCKED" if skip else " FOR UPDATE"


def found(transaction: Transaction, deployment: str, job_id: str, *, lock: bool = False) -> Job | None:
    sql = f"SELECT {COLUMNS} FROM jobs WHERE id = ? AND deployment = ?"  # noqa: S608  # constants
    row = transaction.row(sql + (locking(transaction) if lock else ""), job_id, deployment)
    return None if row is None else job_of(row)


def added(transaction: Transaction, job: Job, *, delayed: bool, keyed: bool) -> Callable[[], bool]:
    """Insert a job, and return what tells whether it was not there already."""
    values: list[Value] = [_value(getattr(job, name)) for name in _NAMES]
    if transaction.dialect == "sqlite" and len(job.parameters) > _SMALL:
        sql = "INSERT INTO large_parameters (job_id, value) VALUES (?, ?) ON CONFLICT (job_id) DO NOTHING"
        transaction.change(sql, job.id, job.parameters)
        values[_NAMES.index("parameters")] = None
    answer = transaction.ask(_INSERTION, *values, int(delayed), int(keyed))
    return lambda: bool(answer())


def moved(
    transaction: Transaction, job: Job, state: JobState, *, delayed: bool = False, **changes: Unpack[Changes]
) -> Job:
    """Change the state of a job, as the table of states allows, and return it as it is then.

    Raises StaleAttemptError when it is not any more as it was read.
    """
    _check(job.state, state)
    columns: dict[str, Value] = {"state": state.value, "delayed": int(delayed), **cast("dict[str, Value]", changes)}
    assignments = ", ".join(f"{column} = ?" for column in columns)
    sql = f"UPDATE jobs SET {assignments} WHERE id = ? AND attempt = ? AND state = ?"  # noqa: S608  # names of columns
    if transaction.change(sql, *columns.values(), job.id, job.attempt, job.state.value) != 1:
        raise StaleAttemptError(job.id, job.attempt)
    if state.terminal:
        transaction.change("DELETE FROM step_results WHERE job_id = ?", job.id)
    return replace(job, state=state, **changes)


def moving(before: JobState, after: JobState, assignments: str) -> str:
    """Return the statement, up to its further conditions, that moves a row which nobody has read, with `assignments`.

    Raises ValueError where the table of states does not allow it.
    """
    _check(before, after)
    assignments = f"state = '{after.value}', delayed = 0, {assignments}"
    return f"UPDATE jobs SET {assignments} WHERE state = '{before.value}'"  # noqa: S608  # constants


def _check(before: JobState, after: JobState) -> None:
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a job that is {before} cannot become {after}")


def check_numbers(events: Sequence[Event], last: int, terminal: JobState | None = None) -> None:
    """See that events follow the `last` one without a gap, and that the terminal one ends them where one is due."""
    types = [event.type for event in events]
    ending = [] if terminal is None else [TERMINAL_EVENTS[terminal]]
    if [kind for kind in types if kind in TERMINAL_EVENTS.values()] != ending or types[
        len(types) - len(ending) :
    ] != ending:
        raise ValueError(f"a terminal event ends a job, and nothing else does: {ending} was due, not {types[-1:]}")
    numbers = [event.id for event in events]
    if numbers and (numbers[0] > last + 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers)))):
        raise ValueError(f"the events {numbers[0]} to {numbers[-1]} do not follow event {last}")


def record(transaction: Transaction, events: Sequence[Event], *, first: int, last: int, most: int) -> tuple[int, int]:
    """Insert those of `events` that are not there yet; return the numbers of the first and last that are kept then.

    `first` and `last` are those of the job before. Of more than `most` events the oldest are removed, a tenth more
    than need be, so that it is seldom done.
    """
    new = [event for event in events if event.id > last]
    if not new:
        return first, last
    transaction.change_many(
        "INSERT INTO events (job_id, id, type, step_name, at, data) VALUES (?, ?, ?, ?, ?, ?)",
        [(event.job_id, event.id, event.type, event.step_name, event.at, event.data) for event in new],
    )
    last = new[-1].id
    if last - first >= most:
        first = min(last - most + most // 10 + 1, first + _FORGOTTEN_AT_MOST + len(new))
        transaction.change("DELETE FROM events WHERE job_id = ? AND id < ?", new[0].job_id, first)
    return first, last


def progress_in(events: Sequence[Event]) -> bytes | None:
    """Return the latest progress that events tell of."""
    return next((event.data for event in reversed(events) if event.type == "progress"), None)


def _value(value: Value | JobState | bool) -> Value:
    if isinstance(value, JobState):
        return value.value
    return int(value) if isinstance(value, bool) else value
