"""Deployments whose jobs are kept in a file, and what is done with them."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asgipipe import Deployment
from asgipipe.jobs.jobs import BaseJobs, Submission
from asgipipe.jobs.records import Event, Job
from tests.running import started

PATIENCE = 20.0


@asynccontextmanager
async def working(target: object, store: Path | str, **settings: object) -> AsyncIterator[Deployment]:
    """A started deployment of `target` whose jobs are in `store`."""
    async with started(target, {"store_url": str(store), "drain_timeout": 0.2, **settings}) as deployment:
        yield deployment


async def submitted(deployment: Deployment, parameters: dict[str, object] | None = None, **options: object) -> Job:
    accepted = await deployment.service.jobs.submit(Submission(parameters or {}, **options))  # type: ignore[arg-type]
    assert isinstance(accepted, Job)
    return accepted


async def found(jobs: BaseJobs, job_id: str) -> Job:
    job = await jobs.get(job_id)
    assert job is not None
    return job


async def events_of(jobs: BaseJobs, job_id: str) -> list[Event]:
    """Follow a job to its end and return its events."""
    async with asyncio.timeout(PATIENCE):
        return [event async for group in jobs.follow(job_id) for event in group]


async def ended(deployment: Deployment, job_id: str) -> Job:
    """Wait for the end of a job."""
    await events_of(deployment.service.jobs, job_id)
    return await found(deployment.service.jobs, job_id)


async def in_state(jobs: BaseJobs, job_id: str, state: str) -> Job:
    """Wait until a job is in a state."""
    async with asyncio.timeout(PATIENCE):
        while (job := await found(jobs, job_id)).state != state:  # noqa: ASYNC110  # in any process
            await asyncio.sleep(0.005)
    return job


def outputs_of(job: Job) -> object:
    assert job.result is not None
    return json.loads(job.result)["outputs"]


class Gate:
    """A step's wait, in a thread or on the event loop, until the test opens it; `entered` counts who came."""

    def __init__(self) -> None:
        self.entered = 0
        self._open = threading.Event()

    def wait(self) -> None:
        self.entered += 1
        assert self._open.wait(PATIENCE)

    async def arrive(self) -> None:
        self.entered += 1
        async with asyncio.timeout(PATIENCE):
            while not self._open.is_set():  # noqa: ASYNC110  # one gate for threads and tasks
                await asyncio.sleep(0.002)

    def open(self) -> None:
        self._open.set()
