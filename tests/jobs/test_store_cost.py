"""What the store's operations cost, counted in steps of SQLite's virtual machine: time would tell of the machine."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import pytest

from asgipipe.identifiers import UUID7Source
from asgipipe.jobs.jobs import IdempotencyKey
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database, Operation, Row, Transaction, Value
from asgipipe.stores.schema import SQLITE, STEPS, statements
from asgipipe.testing.jobstores import BEGINNING, DAY, KEY, OWNER, envelope, events_of, pending_job

T = TypeVar("T")

PAST = 200_000
"""Jobs that ended before."""


class Counting(Transaction):
    """Counts the steps, and keeps how each statement finds its rows."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for step in STEPS:
            for statement in statements(step, SQLITE):
                self.connection.execute(statement)
        self.steps = 0
        self.plans: dict[str, list[str]] = {}

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        plan = self.connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        self.plans[sql] = [str(row[3]) for row in plan]
        self.connection.set_progress_handler(self._step, 1)
        found = self.connection.execute(sql, parameters).fetchall()
        self.connection.set_progress_handler(None, 1)
        return found

    def change(self, sql: str, *parameters: Value) -> int:
        self.rows(sql, *parameters)
        ((count,),) = self.connection.execute("SELECT changes()")
        return int(count)

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        for row in rows:
            self.rows(sql, *row)

    def _step(self) -> None:
        self.steps += 1


class Direct:
    """As much of a database as the store of jobs needs: its operations are done at once."""

    def __init__(self) -> None:
        self.transaction = Counting()

    async def write(self, operation: Operation[T]) -> T:
        return operation(self.transaction)

    read = write

    async def dead(self, workers: Collection[int]) -> set[int]:
        return set(workers)


@pytest.fixture
def direct() -> Iterator[Direct]:
    direct = Direct()
    yield direct
    direct.transaction.connection.close()


async def use(store: JobStore, spend: Callable[[str, Awaitable[T]], Awaitable[T]]) -> None:
    """Do everything that the life of jobs consists of; `spend` does one operation, and has its name."""
    newer = iter(UUID7Source(clock=lambda: int((BEGINNING + DAY) * 1e9)), None)
    jobs = [pending_job(id=next(newer), priority=number % 2) for number in range(4)]
    for job in jobs:
        await store.insert(job, limit=100_000)
    delayed = pending_job(id=next(newer), due_at=BEGINNING + 1)
    await spend("insert", store.insert(delayed, limit=100_000))
    keyed = pending_job(id=next(newer))
    await spend("insert with a key", store.insert(keyed, limit=100_000, key=KEY, ttl=DAY))
    await spend("insert with a key again", store.insert(pending_job(), limit=100_000, key=KEY, ttl=DAY))
    await spend("get", store.get(jobs[0].id))
    await spend("next_due", store.next_due())
    claimed = cast("list[Job]", await spend("claim", store.claim(OWNER, 2)))
    await spend("claim_one", store.claim_one(OWNER, keyed.id))
    first, second = claimed
    await spend(
        "append", store.append(first.id, 1, events_of(first, 1, "log"), progress=b"1", results=[(0, "a", b"1")])
    )
    await spend("results", store.results(first.id))
    await spend("events", store.events(first.id, 0, 10))
    await spend("marks", store.marks([first.id, second.id]))
    await spend("owned", store.owned(OWNER))
    await spend("owners", store.owners())
    await spend("cancel_requests", store.cancel_requests(OWNER))
    end = events_of(first, 2, "pipeline_completed")
    ending = {"result": b"{}", "error": None, "error_code": None, "execution_time": 1.0, "events": end}
    await spend("finish", store.finish(first.id, 1, JobState.COMPLETED, **ending))  # type: ignore[arg-type]  # as it says
    await spend("put_back", store.put_back(second.id, 1, due_at=BEGINNING + 9, failed=True))
    await spend("request_cancel", store.request_cancel(second.id, reason=None, by=None, envelope=envelope))
    await spend("take_over", store.take_over({OWNER}, envelope))
    await spend("page", store.page(JobState.PENDING, 10, None))
    key = IdempotencyKey("another", "alice", "a request")
    await spend("reserve", store.reserve(key, "run", owner=OWNER, ttl=DAY))
    await spend("release_keys_of_dead", store.release_keys_of_dead())
    await spend("reserve again", store.reserve(key, "run", owner=OWNER, ttl=DAY))
    await spend("answer", store.answer(key, "run", status=200, body=b"{}"))
    await spend("prune", store.prune(jobs_before=0.0, keys_before=0.0, limit=100))


def costs(direct: Direct) -> dict[str, int]:
    """Return the number of steps of each operation."""
    spent: dict[str, int] = {}

    async def spend(name: str, work: Awaitable[T]) -> T:
        before = direct.transaction.steps
        result = await work
        spent[name] = direct.transaction.steps - before
        return result

    asyncio.run(use(JobStore(cast("Database", direct), "d", clock=lambda: BEGINNING), spend))
    return spent


def add_past(direct: Direct, number: int) -> None:
    """Add jobs that ended, each with an event and an expired key."""
    connection = direct.transaction.connection
    job = pending_job(state=JobState.COMPLETED.value, completed_at=BEGINNING, result=b"{}", last_event=1)
    names = [name for name in Job.__slots__ if name != "id"]
    values = [getattr(job, name) for name in names]
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) INSERT INTO"  # noqa: S608  # ours
    job_id = "printf('01a1fc31-%012x', i)"
    for table, selected, parameters in (
        (f"jobs (id, delayed, keyed, {columns})", f"{job_id}, 0, 0, {marks}", values),
        ("events", f"{job_id}, 1, 'pipeline_completed', NULL, 0, x'7b7d'", []),
        ("idempotency_keys", "'d', 'alice', i, 'a request', NULL, i, 202, NULL, ?", [BEGINNING]),
    ):
        connection.execute(f"{numbers} {table} SELECT {selected} FROM n", parameters)  # noqa: S608  # ours


def test_the_past_costs_nothing(direct: Direct) -> None:
    """With 200,000 jobs that have ended no operation takes more steps than with none."""
    fresh = Direct()
    expected = costs(fresh)
    fresh.transaction.connection.close()
    add_past(direct, PAST)
    assert len(expected) == 24
    assert costs(direct) == expected


def test_jobs_that_wait_make_claims_no_slower(direct: Direct) -> None:
    """With thousands of jobs that are pending, due or not, claiming takes as many steps as with a few."""
    store = JobStore(cast("Database", direct), "d", clock=lambda: BEGINNING)

    async def claim(more: int) -> int:
        for number in range(more):
            await store.insert(pending_job(priority=number % 3, due_at=BEGINNING + number % 2), limit=100_000)
        before = direct.transaction.steps
        assert len(await store.claim(OWNER, 4)) == 4
        return direct.transaction.steps - before

    assert asyncio.run(claim(20)) == asyncio.run(claim(3000))


def test_room_is_not_counted_for_each_job(direct: Direct) -> None:
    """Inserts with thousands of pending jobs cost little more than the first ones, on the average."""
    store = JobStore(cast("Database", direct), "d", clock=lambda: BEGINNING)

    async def insert(number: int) -> float:
        before = direct.transaction.steps
        for _ in range(number):
            await store.insert(pending_job(), limit=100_000)
        return (direct.transaction.steps - before) / number

    first = asyncio.run(insert(1000))
    asyncio.run(insert(2000))
    assert asyncio.run(insert(1000)) < 1.5 * first


def test_every_statement_uses_an_index(direct: Direct) -> None:
    """No statement looks through a table, or sorts what it found."""
    costs(direct)
    assert len(direct.transaction.plans) >= 30
    for sql, plan in direct.transaction.plans.items():
        scans = [line for line in plan if line.startswith("SCAN") and line != "SCAN waiting"]
        assert not scans, f"{sql}: {scans}"
        assert not [line for line in plan if "FOR ORDER BY" in line], sql
