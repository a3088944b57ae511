"""What a job queue has to prove: one class of pytest tests, to be subclassed for each.

class TestMine(JobQueueConformance):
    @pytest.fixture
    def settings(self, tmp_path):
        return {"store_url": str(tmp_path / "store.db"), "job_queue": "my.package:Queue"}
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager

import pytest

from asgipipe import get_step_context, pipeline
from asgipipe.jobs.jobs import Submission
from asgipipe.jobs.records import TERMINAL_EVENTS, Job
from asgipipe.jobs.states import JobState
from asgipipe.runners.deployment import Deployment
from asgipipe.testing.client import soon

Settings = Mapping[str, object]

PATIENCE = 20.0
"""Seconds until something that normally takes a fraction of one is given up."""
SOON = 2.0
"""Seconds in which a job begins that nothing keeps from it; on a quiet machine a few hundredths."""


class Stage:
    """A pipeline whose runs note that they have begun, and wait as long as their gate is shut."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running = self.most = 0
        self.fails = 0
        self._open = asyncio.Event()

        @pipeline(name="staged")
        async def staged(label: str = "", wait: bool = False) -> str:
            self.begun.append(label)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                return await self._perform(label, wait=wait)
            finally:
                self.running -= 1

        self.pipeline = staged

    async def _perform(self, label: str, *, wait: bool) -> str:
        if self.fails:
            self.fails -= 1
            raise ValueError("not this time")
        if wait:
            async with asyncio.timeout(PATIENCE):
                await self._open.wait()
        return f"{label} {get_step_context().run_id}"

    def open(self) -> None:
        self._open.set()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # whatever it is
            await asyncio.sleep(0.005)


@asynccontextmanager
async def working(stage: Stage, settings: Settings, name: str = "d", **others: object) -> AsyncIterator[Deployment]:
    """A started deployment of the stage."""
    deployment = Deployment(stage.pipeline, {"drain_timeout": 0.2, **settings, **others}, layers=(), name=name)
    await deployment.start()
    try:
        yield deployment
    finally:
        await deployment.stop()


async def submit(deployment: Deployment, label: str = "", *, wait: bool = False, **options: object) -> str:
    """Submit a job and return its id."""
    submission = Submission({"label": label, "wait": wait}, **options)  # type: ignore[arg-type]  # as the caller says
    accepted = await deployment.service.jobs.submit(submission)
    assert isinstance(accepted, Job)
    return accepted.id


async def found(deployment: Deployment, job_id: str) -> Job:
    job = await deployment.service.jobs.get(job_id)
    assert job is not None
    return job


async def end_of(deployment: Deployment, job_id: str) -> Job:
    """Follow a job to its end, of which there is one."""
    async with asyncio.timeout(PATIENCE):
        events = [event async for group in deployment.service.jobs.follow(job_id) for event in group]
    ends = [event.type for event in events if event.type in TERMINAL_EVENTS.values()]
    assert len(ends) == 1, ends
    return await found(deployment, job_id)


def lateness(job: Job) -> float:
    """Return how many seconds after it was due the job began."""
    assert job.started_at is not None
    return job.started_at - job.due_at


def play(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


class JobQueueConformance:
    """`settings` are those of a deployment with the queue, over a store that is empty."""

    @pytest.fixture
    def settings(self) -> Settings:
        raise NotImplementedError("return the settings of a deployment with your queue: store_url, job_queue, ...")

    def test_a_job_is_run_once(self, settings: Settings) -> None:
        """What is submitted begins soon, is run once, and ends."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings) as deployment:
                for label in "abc":
                    job = await end_of(deployment, await submit(deployment, label))
                    assert (job.state, job.attempt, job.losses) == (JobState.COMPLETED, 1, 0)
                    assert lateness(job) < soon(SOON)
            assert stage.begun == ["a", "b", "c"]

        play(scenario())

    def test_no_more_at_once_than_there_is_room_for(self, settings: Settings) -> None:
        """Of many jobs, job_concurrency run at once, and the others are pending; each is run once."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings, job_concurrency=3) as deployment:
                jobs = [await submit(deployment, str(number), wait=True) for number in range(8)]
                await until(lambda: stage.running == 3)
                await asyncio.sleep(0.05)
                assert await deployment.service.jobs.counts() == {
                    **dict.fromkeys(JobState, 0),
                    JobState.RUNNING: 3,
                    JobState.PENDING: 5,
                }
                stage.open()
                states = [(await end_of(deployment, job_id)).state for job_id in jobs]
            assert (set(states), stage.most) == ({JobState.COMPLETED}, 3)
            assert sorted(stage.begun) == [str(number) for number in range(8)]

        play(scenario())

    def test_the_order_of_jobs(self, settings: Settings) -> None:
        """A higher priority comes first, and of the same one the job that was accepted first."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings, job_concurrency=1) as deployment:
                jobs = [await submit(deployment, "first", wait=True)]
                await until(lambda: stage.running)
                for label, priority in (("low", -5), ("middle", 0), ("high", 7), ("later", 0), ("higher", 1000)):
                    jobs.append(await submit(deployment, label, priority=priority))
                stage.open()
                for job_id in jobs:
                    await end_of(deployment, job_id)
            assert stage.begun == ["first", "higher", "high", "middle", "later", "low"]

        play(scenario())

    def test_a_delay(self, settings: Settings) -> None:
        """A job does not begin before it is due, and soon after that; it keeps no other from beginning."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings) as deployment:
                delayed = await submit(deployment, "delayed", delay=0.6, priority=10)
                await end_of(deployment, await submit(deployment, "other"))
                assert stage.begun == ["other"]
                assert 0 <= lateness(await end_of(deployment, delayed)) < soon(SOON)

        play(scenario())

    def test_a_retry(self, settings: Settings) -> None:
        """A job whose pipeline raises is run again after its pause, as often as it may be."""

        async def scenario() -> None:
            stage = Stage()
            stage.fails = 2
            async with working(stage, settings, job_retries=2, job_retry_delay=0.05) as deployment:
                job = await end_of(deployment, await submit(deployment, "x"))
                assert (job.state, job.attempt, job.failures) == (JobState.COMPLETED, 3, 2)
            assert stage.begun == ["x", "x", "x"]

        play(scenario())

    def test_cancelled_jobs(self, settings: Settings) -> None:
        """A pending job that is cancelled is never run; a running one ends; those after them are run."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings, job_concurrency=1) as deployment:
                running = await submit(deployment, "running", wait=True)
                await until(lambda: stage.running)
                pending, after = await submit(deployment, "pending"), await submit(deployment, "after")
                assert (await deployment.service.jobs.cancel(pending)).state is JobState.CANCELED
                await deployment.service.jobs.cancel(running, reason="enough")
                assert (await end_of(deployment, running)).state is JobState.CANCELED
                assert (await end_of(deployment, after)).state is JobState.COMPLETED
            assert stage.begun == ["running", "after"]

        play(scenario())

    def test_a_replica_that_runs_no_jobs(self, settings: Settings) -> None:
        """With run_jobs off nothing is run; whoever runs jobs has those that wait, and new ones soon."""

        async def scenario() -> None:
            front, back = Stage(), Stage()
            async with working(front, settings, run_jobs=False) as replica:
                waiting = await submit(replica, "waiting")
                await asyncio.sleep(0.3)
                assert (await found(replica, waiting)).state is JobState.PENDING
                async with working(back, settings):
                    assert (await end_of(replica, waiting)).state is JobState.COMPLETED
                    for label in "abc":
                        assert lateness(await end_of(replica, await submit(replica, label))) < soon(SOON)
            assert (front.begun, back.begun) == ([], ["waiting", "a", "b", "c"])

        play(scenario())

    def test_deployments_that_share_a_store(self, settings: Settings) -> None:
        """Each runs its own jobs, and those alone."""

        async def scenario() -> None:
            one, other = Stage(), Stage()
            async with working(one, settings) as first, working(other, settings, name="e") as second:
                jobs = [(deployment, await submit(deployment)) for deployment in (first, second, second)]
                for deployment, job_id in jobs:
                    assert (await end_of(deployment, job_id)).state is JobState.COMPLETED
            assert (len(one.begun), len(other.begun)) == (1, 2)

        play(scenario())

    def test_workers_that_share_the_jobs(self, settings: Settings) -> None:
        """Of many jobs each is run once, by one of the workers, and all of them have some."""

        async def scenario() -> None:
            one, other = Stage(), Stage()
            async with working(one, settings) as first, working(other, settings):
                jobs = await asyncio.gather(*(submit(first, str(number), wait=True) for number in range(60)))
                await until(lambda: one.running and other.running)
                one.open()
                other.open()
                ended = await asyncio.gather(*(end_of(first, job_id) for job_id in jobs))
                assert {(job.state, job.attempt) for job in ended} == {(JobState.COMPLETED, 1)}
            assert Counter(one.begun + other.begun) == Counter(map(str, range(60)))

        play(scenario())

    def test_a_worker_that_stops(self, settings: Settings) -> None:
        """What it cannot finish in time is handed back and run by the next one, as is what it had not begun."""

        async def scenario() -> None:
            one, other = Stage(), Stage()
            other.open()
            async with working(one, settings, run_jobs=False) as replica:
                async with working(one, settings, job_concurrency=2, drain_timeout=0.1):
                    jobs = [await submit(replica, str(number), wait=True) for number in range(4)]
                    await until(lambda: one.running == 2)
                counts = await replica.service.jobs.counts()
                assert (counts[JobState.PENDING], counts[JobState.RUNNING]) == (4, 0)
                async with working(other, settings):
                    for job_id in jobs:
                        job = await end_of(replica, job_id)
                        assert (job.state, job.losses) == (JobState.COMPLETED, 0)
            assert sorted(other.begun) == ["0", "1", "2", "3"]

        play(scenario())

    def test_a_job_that_another_queue_was_to_deliver(self, settings: Settings) -> None:
        """What is pending when the queue is changed is run all the same."""

        async def scenario() -> None:
            stage = Stage()
            async with working(stage, settings, run_jobs=False, job_queue="embedded", job_queue_kwargs={}) as replica:
                left = [await submit(replica, label, delay=delay) for label, delay in (("now", 0.0), ("later", 0.3))]
                async with working(stage, settings):
                    for job_id in left:
                        assert (await end_of(replica, job_id)).state is JobState.COMPLETED
            assert stage.begun == ["now", "later"]

        play(scenario())
