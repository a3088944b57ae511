"""The tables of recorded runs: what is written, read and pruned, each in one operation of the database.

Everything written may be written again: a run and its steps replace what was known of them, a log record stands.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

from asgipipe.stores.database import Transaction, Value
from asgipipe.tracking import bundles
from asgipipe.tracking.records import COMPLETED, RecordedArtifact, RecordedLog, RecordedRun, RecordedStep, RunPage

_ROWS_AT_ONCE = (64, 8, 1)
"""How many rows one statement inserts.

The interpreter is locked again after each statement. A writer that runs beside a busy event loop waits up to 5 ms for
that, every time: with a row for each statement it was the writer that set the pace.
"""


class _Insert:
    """Inserts many rows, by statements for several of them."""

    def __init__(self, table: str, columns: str, conflict: str) -> None:
        self.width = columns.count(",") + 1
        row = f"({', '.join('?' * self.width)})"
        self._statements = {
            count: f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * count)} ON CONFLICT {conflict}"  # noqa: S608  # constants
            for count in _ROWS_AT_ONCE
        }

    def __call__(self, transaction: Transaction, rows: Sequence[tuple[Value, ...]]) -> None:
        """Insert `rows`, of which no two may be about the same."""
        begin = 0
        for count, sql in self._statements.items():
            while len(rows) - begin >= count:
                transaction.change(sql, *chain.from_iterable(rows[begin : begin + count]))
                begin += count


def _update(columns: str) -> str:
    return f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns.split(', '))}"


_RUN_COLUMNS = (
    "id, deployment, pipeline, name, attempt, status, started_at, completed_at, execution_time, error, "
    "parameters, outputs, metadata"
)
_STEP_COLUMNS = "number, name, status, attempt, started_at, execution_time, error, outputs, metadata"
_insert_runs = _Insert("runs", _RUN_COLUMNS, f"(id) {_update(_RUN_COLUMNS.partition(', ')[2])}")
_insert_steps = _Insert(
    "run_steps", f"run_id, {_STEP_COLUMNS}", f"(run_id, number) {_update(_STEP_COLUMNS.partition(', ')[2])}"
)
_insert_artifacts = _Insert(
    "artifacts",
    "run_id, step_number, name, size, content_hash",
    f"(run_id, step_number, name) {_update('size, content_hash')}",
)
_insert_logs = _Insert(
    "run_logs", "run_id, number, at, level, logger, step_name, message", "(run_id, number) DO NOTHING"
)
_PARTS = ("run_steps", "artifacts", "run_logs")
_LISTED = "id, deployment, pipeline, name, attempt, status, started_at, completed_at, execution_time, error"


@dataclass(slots=True)
class Rows:
    """What is written of one run at one time; a `repeatable` one is a job's, of which there may be other attempts."""

    run: tuple[Value, ...]
    steps: Sequence[tuple[Value, ...]] = ()
    logs: Sequence[tuple[Value, ...]] = ()
    artifacts: Sequence[tuple[Value, ...]] = ()
    repeatable: bool = False

    @property
    def id(self) -> Value:
        return self.run[0]

    @property
    def attempt(self) -> Value:
        return self.run[4]


def write(transaction: Transaction, group: Sequence[Rows]) -> None:
    """Write what was recorded of some runs."""
    latest: dict[Value, int] = {}
    for rows in group:
        if rows.repeatable:
            latest[rows.id] = max(_number(rows.attempt), latest.get(rows.id, 0))
    fresh = [
        rows
        for rows in group
        if not rows.repeatable or (rows.attempt == latest[rows.id] and _is_latest(transaction, rows))
    ]
    # What comes later of a run or a step stands in the place of what came before.
    _insert_runs(transaction, list({rows.id: rows.run for rows in fresh}.values()))
    _insert_steps(transaction, list({step[:2]: step for rows in fresh for step in rows.steps}.values()))
    _insert_artifacts(transaction, list({one[:3]: one for rows in fresh for one in rows.artifacts}.values()))
    _insert_logs(transaction, [log for rows in fresh for log in rows.logs])


def _is_latest(transaction: Transaction, rows: Rows) -> bool:
    """Say whether no later attempt at the run was recorded; what an earlier one has left goes."""
    known = transaction.row("SELECT attempt FROM runs WHERE id = ?", rows.id)
    if known is None or known[0] == rows.attempt:
        return True
    if _number(known[0]) > _number(rows.attempt):
        return False
    for table in _PARTS:
        transaction.change(f"DELETE FROM {table} WHERE run_id = ?", rows.id)  # noqa: S608  # constants
    return True


def page(
    transaction: Transaction,
    deployment: str | None,
    *,
    status: str | None,
    pipeline: str | None,
    limit: int,
    cursor: str | None,
) -> RunPage:
    """Return the newest runs, those before `cursor`; of one deployment, or of all."""
    given = {"deployment = ?": deployment, "status = ?": status, "pipeline = ?": pipeline, "id < ?": cursor}
    found: Iterable[RecordedRun] = _in_rows(transaction, given, limit + 1)
    if status in (None, COMPLETED):
        bundled = bundles.newest(transaction, deployment, pipeline, cursor)
        found = islice(merge(found, bundled, key=attrgetter("id"), reverse=True), limit + 1)
    runs = list(found)
    return RunPage(runs[:limit], runs[limit - 1].id if len(runs) > limit else None)


def _in_rows(transaction: Transaction, given: Mapping[str, str | None], limit: int) -> list[RecordedRun]:
    """Return the newest of those that have rows of their own."""
    conditions = [condition for condition, value in given.items() if value is not None]
    if given["status = ?"] not in (None, COMPLETED):
        conditions.append("status <> 'completed'")  # the condition of the index
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values = [value for value in given.values() if value is not None]
    sql = f"SELECT {_LISTED} FROM runs {where} ORDER BY id DESC LIMIT ?"  # noqa: S608  # constants
    return [RecordedRun.listed(row) for row in transaction.rows(sql, *values, limit)]


def run(transaction: Transaction, deployment: str | None, run_id: str) -> RecordedRun | None:
    """Return a run; its parts are with it if it is in a bundle."""
    sql = f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608  # constants
    row = transaction.row(sql, run_id)
    found = bundles.find(transaction, run_id) if row is None else RecordedRun.of(row)
    return found if found is not None and deployment in (None, found.deployment) else None


def steps(transaction: Transaction, run_id: str, after: int, limit: int) -> list[RecordedStep]:
    """Return steps after number `after`."""
    sql = f"SELECT {_STEP_COLUMNS} FROM run_steps WHERE run_id = ? AND number > ? ORDER BY number LIMIT ?"  # noqa: S608  # constants
    return [RecordedStep.of(row) for row in transaction.rows(sql, run_id, after, limit)]


def artifacts(transaction: Transaction, run_id: str, steps: Collection[int]) -> list[RecordedArtifact]:
    """Return the large payloads of these steps."""
    first, last = min(steps, default=0), max(steps, default=-1)
    sql = (
        "SELECT step_number, name, size, content_hash FROM artifacts "
        "WHERE run_id = ? AND step_number BETWEEN ? AND ? ORDER BY step_number, name"
    )
    return [RecordedArtifact.of(row) for row in transaction.rows(sql, run_id, first, last)]


def logs(transaction: Transaction, run_id: str, after: int, limit: int) -> list[RecordedLog]:
    """Return log records after number `after`."""
    sql = (
        "SELECT number, at, level, logger, step_name, message FROM run_logs "
        "WHERE run_id = ? AND number > ? ORDER BY number LIMIT ?"
    )
    return [RecordedLog.of(row) for row in transaction.rows(sql, run_id, after, limit)]


def prune(transaction: Transaction, deployment: str, before: float, limit: int) -> tuple[int, list[str]]:
    """Delete runs that began before a time, `limit` at most; return how many, and the files that nothing names now.

    Those in bundles are left to `prune_bundles`.
    """
    sql = "SELECT id FROM runs WHERE deployment = ? AND id < ? AND started_at < ? ORDER BY id LIMIT ?"
    ids = [row[0] for row in transaction.rows(sql, deployment, _first_id(before), before, limit)]
    hashes: set[str] = set()
    for run_id in ids:
        found = transaction.rows("SELECT content_hash FROM artifacts WHERE run_id = ?", run_id)
        hashes.update(str(row[0]) for row in found)
        for table in _PARTS:
            transaction.change(f"DELETE FROM {table} WHERE run_id = ?", run_id)  # noqa: S608  # constants
    transaction.change_many("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in ids])
    return len(ids), unnamed(transaction, sorted(hashes))


def prune_bundles(transaction: Transaction, deployment: str, before: float, limit: int) -> int:
    """Delete bundles all of whose runs began before a time, `limit` at most; return how many runs were in them."""
    return bundles.prune(transaction, deployment, _first_id(before), limit)


def _first_id(at: float) -> str:
    """Return what is less than every id made at a time or later: ids begin with their time, in milliseconds."""
    text = f"{int(max(at, 0) * 1000):012x}"
    return f"{text[:8]}-{text[8:]}-7"


def unnamed(transaction: Transaction, hashes: Sequence[str]) -> list[str]:
    """Return those of `hashes` that no artifact has."""
    sql = "SELECT 1 FROM artifacts WHERE content_hash = ? LIMIT 1"
    return [content_hash for content_hash in hashes if transaction.row(sql, content_hash) is None]


def _number(value: Value) -> int:
    assert isinstance(value, int)
    return value
