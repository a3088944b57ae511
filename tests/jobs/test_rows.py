"""Large parameters of jobs: they come back wherever a job is read, and are written once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database
from asgipipe.stores.registry import database
from asgipipe.testing.jobstores import BEGINNING, DAY, events_of, pending_job

LARGE = b'"%b"' % (b"x" * 1_000_000)
WORKER = 7


def with_store(url: str, work: Callable[[JobStore, Database], Awaitable[None]]) -> None:
    async def run() -> None:
        place = database(url)
        await place.open()
        try:
            await work(JobStore(place, "d", clock=lambda: BEGINNING), place)
        finally:
            await place.close()

    asyncio.run(run())


@pytest.mark.parametrize("parameters", [LARGE, LARGE[:4095] + b'"', LARGE[:4096] + b'"'], ids=len)
@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
def test_parameters_of_any_size_come_back(
    url: str, parameters: bytes, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whoever reads a job has its parameters: by its id, in a list, by a claim, and when its worker was lost."""
    seen: list[Job] = []

    def envelope(job: Job, message: str) -> bytes:
        seen.append(job)
        return b"{}"

    async def work(store: JobStore, _: Database) -> None:
        first, second = (pending_job(parameters=parameters, max_attempts=1) for _ in range(2))
        for job in (first, second, first):
            await store.insert(job, limit=10)
        seen.extend(filter(None, [await store.get(first.id), await store.claim_one(WORKER, first.id)]))
        seen.extend(await store.claim(WORKER, 10))
        seen.extend((await store.page(None, 10, None)).jobs)
        seen.extend(await store.owned(WORKER))
        seen.extend(await store.take_over({WORKER}, envelope))
        assert [job.parameters == parameters for job in seen] == [True] * 11

    with_store(str(tmp_path / "store.db") if url == "sqlite" else request.getfixturevalue("postgresql_url"), work)


def test_what_happens_to_a_job_does_not_rewrite_large_parameters(tmp_path: Path) -> None:
    """In SQLite a claim, events and the end of a job write less than its parameters have bytes."""
    path = tmp_path / "store.db"
    log = tmp_path / "store.db-wal"

    async def work(store: JobStore, _: Database) -> None:
        job = pending_job(parameters=LARGE)
        await store.insert(job, limit=10)
        before = log.stat().st_size
        assert before > len(LARGE)
        await store.claim(WORKER, 1)
        for number in range(1, 4):
            await store.append(job.id, 1, events_of(job, number, "log"), progress=b"1")
        end = events_of(job, 4, "pipeline_completed")
        await store.finish(
            job.id, 1, JobState.COMPLETED, result=b"{}", error=None, error_code=None, execution_time=1.0, events=end
        )
        # A log that has become long is written from its start again: it does not grow then, which proves nothing.
        assert 0 < log.stat().st_size - before < len(LARGE)

    with_store(str(path), work)


def test_large_parameters_go_with_their_job(tmp_path: Path) -> None:
    """Pruning a job leaves nothing of its parameters."""

    async def work(store: JobStore, place: Database) -> None:
        job = pending_job(parameters=LARGE)
        await store.insert(job, limit=10)
        await store.request_cancel(job.id, reason=None, by=None, envelope=lambda job, message: b"{}")
        count = "SELECT COUNT(*) FROM large_parameters"
        assert await place.read(lambda transaction: transaction.rows(count)) == [(1,)]
        while await store.prune(jobs_before=BEGINNING + DAY, keys_before=0.0, limit=100):
            pass
        assert await place.read(lambda transaction: transaction.rows(count)) == [(0,)]

    with_store(str(tmp_path / "store.db"), work)
