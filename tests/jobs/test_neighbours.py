import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from asgipipe import Deployment, pipeline
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.sqlite import SQLiteDatabase
from tests.http.wire import until
from tests.jobs.submitting import Gate, ended, submitted, working


@pipeline
def double(number: int = 1) -> int:
    return 2 * number


def test_a_worker_that_was_declared_dead_while_it_ran_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on as another worker before it claims a job, so no job that it runs is taken from it."""
    lost: set[int] = set()
    original = SQLiteDatabase.dead

    async def dead(self: SQLiteDatabase, workers: Collection[int]) -> set[int]:
        return await original(self, workers) | (lost & set(workers))

    monkeypatch.setattr(SQLiteDatabase, "dead", dead)
    store = tmp_path / "store.db"

    async def main() -> None:
        async with working(double, store) as deployment, working(double, store, run_jobs=False) as other:
            first = await ended(deployment, (await submitted(deployment)).id)
            assert first.state is JobState.COMPLETED
            lost.add(await _number_of(deployment))
            await submitted(other, delay=3600.0)  # what others write makes it look
            await until(lambda: "was declared dead" in caplog.text)
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.state, job.attempt, job.losses) == (JobState.COMPLETED, 1, 0)

    asyncio.run(main())


def test_a_store_that_raises_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw is logged once, and does not end the looking: a cancel from elsewhere is seen after it."""
    original, fails = JobStore.owners, [1, 1]

    async def owners(self: JobStore) -> set[int]:
        if fails:
            fails.pop()
            raise RuntimeError("no such table")
        return await original(self)

    monkeypatch.setattr(JobStore, "owners", owners)
    gate = Gate()

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        store = tmp_path / "store.db"
        async with working(waiting, store) as deployment, working(waiting, store, run_jobs=False) as other:
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            while fails:
                await submitted(other, delay=3600.0)
                await asyncio.sleep(0.05)
            await other.service.jobs.cancel(accepted.id)
            assert (await ended(deployment, accepted.id)).state is JobState.CANCELED
            assert caplog.text.count("cannot be looked after") == 1

    asyncio.run(main())


async def _number_of(deployment: Deployment) -> int:
    """Return the number under which a deployment that is alone runs jobs: the first that its store has given."""
    database = await deployment.service.store.open()
    row = await database.read(lambda transaction: transaction.row("SELECT MIN(id) FROM workers"))
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]
