"""Reading the jobs of all deployments that share a store."""

import re
from collections.abc import Collection, Sequence

from asgipipe.identifiers import derived
from asgipipe.jobs.cursors import cursor_after, job_before
from asgipipe.jobs.records import Job, JobPage
from asgipipe.jobs.rows import COLUMNS, job_of
from asgipipe.jobs.states import JobState
from asgipipe.stores.database import Database, Transaction, Value

_BEGINNING = re.compile(r"[0-9a-f-]{1,36}").fullmatch


class JobReader:
    """The jobs in a database: those of the deployment called `deployment`, or of all."""

    def __init__(self, database: Database, deployment: str | None = None) -> None:
        self._database = database
        self._conditions: list[str] = []
        self._values: list[Value] = []
        if deployment is not None:
            self._conditions.append("deployment = ?")
            self._values.append(derived("deployment", deployment))

    async def page(self, states: Collection[JobState] = (), *, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return the newest jobs first; without `states` those in any. Raises BadRequestError for a wrong cursor."""
        conditions, values = [*self._conditions], [*self._values]
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += [state.value for state in states]
        before = None if cursor is None else job_before(cursor)
        return await self._database.read(lambda transaction: _page(transaction, conditions, values, limit, before))

    async def beginning(self, prefix: str, limit: int) -> list[Job]:
        """Return the newest jobs whose ids begin with `prefix`, at most `limit`."""
        if _BEGINNING(prefix) is None:
            return []
        # A whole id is found by its key; LIKE looks through all of them.
        condition, value = ("id = ?", prefix) if len(prefix) == 36 else ("id LIKE ?", f"{prefix}%")
        conditions, values = [*self._conditions, condition], [*self._values, value]
        return await self._database.read(lambda transaction: _newest(transaction, conditions, values, limit))


def _page(
    transaction: Transaction, conditions: Sequence[str], values: Sequence[Value], limit: int, before: str | None
) -> JobPage:
    row = transaction.row(f"SELECT COUNT(*) FROM jobs{_where(conditions)}", *values)  # noqa: S608  # constants
    total = row[0] if row is not None else 0
    assert isinstance(total, int)
    if before is not None:
        conditions, values = [*conditions, "id < ?"], [*values, before]
    jobs = _newest(transaction, conditions, values, limit + 1)
    return JobPage(jobs[:limit], total, cursor_after(jobs[limit - 1].id) if len(jobs) > limit else None)


def _newest(transaction: Transaction, conditions: Sequence[str], values: Sequence[Value], limit: int) -> list[Job]:
    sql = f"SELECT {COLUMNS} FROM jobs{_where(conditions)} ORDER BY id DESC LIMIT ?"  # noqa: S608  # constants
    return [job_of(row) for row in transaction.rows(sql, *values, limit)]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
