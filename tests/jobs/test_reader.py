import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from asgipipe.errors import BadRequestError
from asgipipe.identifiers import derived
from asgipipe.jobs.reader import JobReader
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database
from asgipipe.stores.registry import database
from asgipipe.testing.jobstores import envelope, pending_job

T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    found: str = request.getfixturevalue("postgresql_url")
    return found


def with_jobs(url: str, work: Callable[[Database, list[Job]], Awaitable[T]]) -> T:
    """Do `work` with five jobs, oldest first, of the deployments `sun` and `moon` in turn; the first is canceled."""

    async def run() -> T:
        place = database(url)
        await place.open()
        try:
            jobs = []
            for name in ("sun", "moon", "sun", "moon", "sun"):
                job = replace(pending_job(), deployment=derived("deployment", name))
                accepted = await JobStore(place, job.deployment).insert(job, limit=100)
                assert isinstance(accepted, Job)
                jobs.append(accepted)
            await JobStore(place, jobs[0].deployment).request_cancel(
                jobs[0].id, reason=None, by=None, envelope=envelope
            )
            return await work(place, jobs)
        finally:
            await place.close()

    return asyncio.run(run())


def test_pages(url: str) -> None:
    """The jobs of all deployments come newest first, filtered, counted, and page by page."""

    async def work(place: Database, jobs: list[Job]) -> None:
        ids = [job.id for job in reversed(jobs)]
        reader = JobReader(place)
        first = await reader.page(limit=3)
        assert ([job.id for job in first.jobs], first.total) == (ids[:3], 5)
        second = await reader.page(limit=3, cursor=first.next_cursor)
        assert ([job.id for job in second.jobs], second.next_cursor) == (ids[3:], None)
        pending = await reader.page([JobState.PENDING])
        assert [job.id for job in pending.jobs] == ids[:4]
        some = await reader.page([JobState.CANCELED, JobState.PENDING, JobState.RUNNING])
        assert some.total == 5
        moon = await JobReader(place, "moon").page([JobState.PENDING])
        assert [job.id for job in moon.jobs] == [jobs[3].id, jobs[1].id]
        with pytest.raises(BadRequestError):
            await reader.page(cursor="nonsense")

    with_jobs(url, work)


def test_beginnings(url: str) -> None:
    """A job is found by its id and by a beginning of it; what is no beginning of an id finds nothing."""

    async def work(place: Database, jobs: list[Job]) -> None:
        reader, wanted = JobReader(place), jobs[2]
        assert await reader.beginning(wanted.id, 2) == [wanted]
        assert await reader.beginning(wanted.id[:-1], 2) == [wanted]
        assert len(await reader.beginning("0", 3)) == 3
        assert await JobReader(place, "moon").beginning(wanted.id, 2) == []
        for text in ("%", "_", "", "0" * 37, "g"):
            assert await reader.beginning(text, 2) == []

    with_jobs(url, work)
