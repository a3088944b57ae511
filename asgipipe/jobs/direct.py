"""Moves of jobs in one statement each, for a database behind a wire: nothing is read first, and many are under way.

Each is sent, and returns what tells whether it was done. One that finds the job otherwise than it should be changes
nothing, and is then done step by step, see `Transitions`, where it is said what is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from asgipipe.jobs.records import Addition, Ending, Event, Job
from asgipipe.jobs.rows import COLUMNS, check_numbers, job_of, moving, progress_in
from asgipipe.jobs.states import JobState
from asgipipe.stores.database import Transaction, Value

_MOST = 50
"""Rows that one statement inserts: each number of them is another statement to be planned."""

_CLAIM = (
    moving(JobState.PENDING, JobState.RUNNING, "attempt = attempt + 1, owner = ?, started_at = GREATEST(?, created_at)")
    + f" AND id = ? AND deployment = ? AND due_at <= ? RETURNING {COLUMNS}"
)
_HELD = "id = ? AND deployment = ? AND attempt = ? AND last_event = ? AND ? - first_event < ? RETURNING id"
_EVENT = "(?::text, ?::int8, ?::text, ?::text, ?::float8, ?::bytea)"
_RESULT = "(?::text, ?::int8, ?::text, ?::int8, ?::bytea)"


def possible(transaction: Transaction, events: Sequence[Event], results: Sequence[object] = ()) -> bool:
    return transaction.dialect == "postgresql" and 0 < len(events) <= _MOST and len(results) <= _MOST


def claim(transaction: Transaction, deployment: str, owner: int, job_id: str, now: float) -> Callable[[], Job | None]:
    answer = transaction.ask(_CLAIM, owner, now, job_id, deployment, now)

    def claimed() -> Job | None:
        row = next(iter(answer()), None)
        return None if row is None else job_of(row)

    return claimed


@dataclass(frozen=True, slots=True)
class Hold:
    """What an attempt has: a job, of which at most `most` events are kept."""

    deployment: str
    job_id: str
    attempt: int
    most: int

    def values(self, events: Sequence[Event]) -> tuple[Value, ...]:
        """Return the parameters of _HELD for the events that are next."""
        return self.job_id, self.deployment, self.attempt, events[0].id - 1, events[-1].id, self.most


def append(transaction: Transaction, hold: Hold, addition: Addition) -> Callable[[], bool]:
    events, results = addition.events, addition.results
    check_numbers(events, events[0].id - 1)
    answer = transaction.ask(
        _append(len(events), len(results)),
        events[-1].id,
        addition.progress,
        *hold.values(events),
        *_values(events),
        *[value for place, name, kept in results for value in (hold.job_id, place, name, hold.attempt, kept)],
    )
    return lambda: bool(answer())


def finish(transaction: Transaction, hold: Hold, ending: Ending, now: float) -> Callable[[], bool]:
    events, taken = ending.events, ending.execution_time
    check_numbers(events, events[0].id - 1, ending.state)
    answer = transaction.ask(
        _finish(len(events), ending.state),
        ending.result,
        ending.error,
        ending.error_code,
        None if taken is None else max(taken, 0.0),
        now,
        events[-1].id,
        progress_in(events),
        *hold.values(events),
        *_values(events),
    )
    return lambda: bool(answer())


def _values(events: Sequence[Event]) -> list[Value]:
    return [
        value
        for event in events
        for value in (event.job_id, event.id, event.type, event.step_name, event.at, event.data)
    ]


@lru_cache(maxsize=1024)
def _append(events: int, results: int) -> str:
    return (
        "WITH job AS (UPDATE jobs SET last_event = ?, progress = COALESCE(?, progress)"  # noqa: S608  # constants
        f" WHERE state = 'running' AND {_HELD}),"
        f" told AS ({_insertion(events)}){_keeping(results)} SELECT 1 FROM job"
    )


@lru_cache(maxsize=256)
def _finish(events: int, state: JobState) -> str:
    end = (
        "owner = NULL, result = ?, error = ?, error_code = ?, execution_time = ?,"
        " completed_at = GREATEST(?, started_at, created_at), last_event = ?, progress = COALESCE(?, progress)"
    )
    return (
        f"WITH job AS ({moving(JobState.RUNNING, state, end)} AND {_HELD}),"  # noqa: S608  # constants
        " gone AS (DELETE FROM step_results WHERE job_id IN (SELECT id FROM job)),"
        f" told AS ({_insertion(events)}) SELECT 1 FROM job"
    )


def _insertion(events: int) -> str:
    rows = ", ".join([_EVENT] * events)
    return (
        "INSERT INTO events (job_id, id, type, step_name, at, data)"  # noqa: S608  # constants
        f" SELECT told.* FROM job, (VALUES {rows}) AS told"
    )


def _keeping(results: int) -> str:
    if not results:
        return ""
    rows = ", ".join([_RESULT] * results)
    return (
        ", kept AS (INSERT INTO step_results (job_id, position, name, attempt, value)"  # noqa: S608  # constants
        f" SELECT kept.* FROM job, (VALUES {rows}) AS kept ON CONFLICT (job_id, position, name)"
        " DO UPDATE SET attempt = excluded.attempt, value = excluded.value)"
    )
