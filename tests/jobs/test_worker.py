"""What happens to jobs whose store, or whose code, does what it should not."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asgipipe import Deployment, DeploymentService, pipeline
from asgipipe.errors import RunCanceled, StorageFullError, UnavailableError
from asgipipe.jobs.attempt import Attempt
from asgipipe.jobs.neighbours import Neighbours
from asgipipe.jobs.queue import BaseJobQueue, Consumer
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.jobs.worker import Worker
from tests.http.wire import until
from tests.jobs.submitting import Gate, ended, events_of, found, in_state, outputs_of, submitted, working


@pipeline
def double(number: int = 1) -> int:
    return 2 * number


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


class Failing:
    """Stands in for a method of the store: `times` calls fail, after the work was done when it is `late`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: int, late: bool) -> None:
        self.calls = 0
        original: Callable[..., Awaitable[object]] = getattr(JobStore, name)

        async def method(store: JobStore, *args: object, **kwargs: object) -> object:
            self.calls += 1
            failing = self.calls <= times
            if failing and not late:
                raise error
            result = await original(store, *args, **kwargs)
            if failing:
                raise error
            return result

        monkeypatch.setattr(JobStore, name, method)


LOST = UnavailableError("the connection was lost")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_a_claim_that_fails(store: Path, monkeypatch: pytest.MonkeyPatch, late: bool, times: int) -> None:
    """Jobs are claimed later, and those of a claim whose outcome was unknown are found and run: once."""
    failing = Failing(monkeypatch, "claim", LOST, times, late)

    async def main() -> None:
        async with working(double, store) as deployment:
            jobs = [await submitted(deployment, {"number": number}) for number in range(3)]
            finished = [await ended(deployment, job.id) for job in jobs]
            assert [outputs_of(job) for job in finished] == [{"output": 0}, {"output": 2}, {"output": 4}]
            assert [job.attempt for job in finished] == [1, 1, 1]
            assert failing.calls > times
            assert deployment.lifecycle.active == 0

    asyncio.run(main())


class IdleQueue(BaseJobQueue):
    """Leaves it to the test to hand out jobs."""

    async def start(self, consumer: Consumer) -> None: ...

    async def drain(self) -> None: ...

    async def stop(self) -> None: ...


def test_a_claim_that_fails_while_the_jobs_of_another_are_looked_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was claimed without an answer while the store was asked for such jobs is found the next time."""
    monkeypatch.setitem(Neighbours.__init__.__kwdefaults__, "look", 3600.0)
    find, claim = JobStore.owned, JobStore.claim_one
    asked, gate = asyncio.Event(), asyncio.Event()
    jobs: list[Job] = []
    claimed: list[str] = []

    async def owned(self: JobStore, owner: int) -> list[Job]:
        found = await find(self, owner)
        asked.set()
        await gate.wait()
        return found

    async def claim_one(self: JobStore, owner: int, job_id: str) -> Job | None:
        claimed.append(job_id)
        if claimed.count(job_id) > 1:
            return await claim(self, owner, job_id)
        if job_id == jobs[1].id:
            await asked.wait()
        await claim(self, owner, job_id)
        raise LOST

    monkeypatch.setattr(JobStore, "owned", owned)
    monkeypatch.setattr(JobStore, "claim_one", claim_one)

    async def main() -> None:
        async with working(double, store, job_queue=IdleQueue) as deployment:
            jobs.extend([await submitted(deployment) for _ in range(2)])
            worker = _worker_of(deployment)
            second = asyncio.create_task(worker.run(jobs[1].id))
            await until(lambda: claimed)
            with pytest.raises(UnavailableError):
                await worker.run(jobs[0].id)
            first = asyncio.create_task(worker.run(jobs[0].id))
            with pytest.raises(UnavailableError):
                await second
            gate.set()
            await first
            await worker.run(jobs[1].id)
            assert [(await ended(deployment, job.id)).attempt for job in jobs] == [1, 1]

    asyncio.run(main())


def test_a_drain_that_overtakes_a_claim(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is pending again without having been begun; the number that it was claimed with is not given again."""
    claimed, drained = asyncio.Event(), asyncio.Event()
    original = JobStore.claim

    async def claim(self: JobStore, owner: int, limit: int) -> list[Job]:
        jobs = await original(self, owner, limit)
        if jobs:
            claimed.set()
            await drained.wait()
        return jobs

    monkeypatch.setattr(JobStore, "claim", claim)

    async def main() -> None:
        async with working(double, store) as deployment:
            job = await submitted(deployment)
            await claimed.wait()
            draining = asyncio.create_task(deployment.service.jobs.drain())
            await until(lambda: _worker_of(deployment).draining)
            drained.set()
            await draining
            job = await found(deployment.service.jobs, job.id)
            assert (job.state, job.attempt, job.losses, job.failures) == (JobState.PENDING, 1, 0, 0)
            assert job.last_event == 0
        async with working(double, store) as deployment:
            events = await events_of(deployment.service.jobs, job.id)
            begun = [json.loads(event.data)["attempt"] for event in events if event.type == "pipeline_started"]
            assert begun == [2]

    asyncio.run(main())


def test_a_job_that_runs_here_without_having_been_begun(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is begun, in the attempt that it has, within two looks; those that were begun are not begun once more."""
    monkeypatch.setitem(Neighbours.__init__.__kwdefaults__, "look", 0.05)
    gate = Gate()

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        async with working(waiting, store, job_queue=IdleQueue) as deployment:
            lost, other = [await submitted(deployment) for _ in range(2)]
            worker = _worker_of(deployment)
            running = asyncio.create_task(worker.run(other.id))
            assert await _store_of(deployment).claim_one(worker.owner, lost.id) is not None
            await until(lambda: gate.entered == 2)
            assert await worker.adopt() == 0
            gate.open()
            await running
            for job in (lost, other):
                assert (await ended(deployment, job.id)).attempt == 1
            assert gate.entered == 2

    with caplog.at_level(logging.WARNING, "asgipipe"):
        asyncio.run(main())
    assert "1 jobs were claimed here without having been begun" in caplog.text


def test_an_attempt_that_goes_wrong(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours costs the job one attempt, as if its worker was lost, and it ends when it has no more."""
    runs = []

    async def execute(self: Attempt) -> None:
        runs.append(self.job.attempt)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Attempt, "execute", execute)

    async def main() -> None:
        async with working(double, store, job_max_attempts=2) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.state, job.error_code, job.losses) == (JobState.FAILED, "interrupted", 2)

    asyncio.run(main())
    assert runs == [1, 2]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [LOST, StorageFullError()], ids=["lost", "full"])
def test_a_store_that_cannot_be_written(
    store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, late: bool
) -> None:
    """How a job ended is written down as soon as that is possible; the pipeline is not run again for it."""
    failing = Failing(monkeypatch, "finish", error, 3, late)
    runs = []

    async def main() -> None:
        async with working(lambda: runs.append(1), store) as deployment:
            accepted = await submitted(deployment)
            events = await events_of(deployment.service.jobs, accepted.id)
            job = await found(deployment.service.jobs, accepted.id)
            assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
            assert [event.type for event in events] == ["pipeline_started", "pipeline_completed"]
            await until(lambda: deployment.lifecycle.active == 0)
            assert failing.calls == 4

    asyncio.run(main())
    assert runs == [1]


def test_a_retry_that_cannot_be_written(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry whose commit had an unknown outcome is one retry."""
    Failing(monkeypatch, "put_back", LOST, 2, late=True)

    def fails() -> None:
        raise ValueError("no luck")

    async def main() -> None:
        async with working(fails, store, job_retries=1, job_retry_delay=0.3) as deployment:
            accepted = await submitted(deployment)
            events = await events_of(deployment.service.jobs, accepted.id)
            job = await found(deployment.service.jobs, accepted.id)
            assert (job.state, job.attempt, job.failures) == (JobState.FAILED, 2, 1)
            assert [event.type for event in events].count("retrying") == 1

    asyncio.run(main())


def test_a_result_that_the_store_refuses(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can never be stored fails the job, with a short reason, instead of being tried for ever."""
    Failing(monkeypatch, "finish", ValueError("string or blob too big"), 1, late=False)

    async def main() -> None:
        async with working(double, store) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.state, job.error) == (JobState.FAILED, "the result could not be stored")

    asyncio.run(main())


def test_an_attempt_that_has_lost_its_job(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that was taken for dead drops its run when it finds out, and writes nothing over the new attempt's."""
    gate, runs = Gate(), []

    @pipeline
    async def waiting() -> int:
        number = len(runs)
        runs.append("running")
        try:
            if number == 0:
                await gate.arrive()
        finally:
            runs[number] = "ended"
        return number

    async def main() -> None:
        async with working(waiting, store) as frozen:
            accepted = await submitted(frozen)
            await until(lambda: gate.entered)
            running = await in_state(frozen.service.jobs, accepted.id, "running")
            async with working(waiting, store) as other:
                assert running.owner is not None
                await _store_of(other).take_over({running.owner}, lambda job, error: b"{}")
                job = await ended(other, accepted.id)
                gate.open()
                await until(lambda: frozen.lifecycle.active == 0)
                assert (job.state, job.attempt, job.losses) == (JobState.COMPLETED, 2, 1)
                assert await found(frozen.service.jobs, accepted.id) == job
                assert outputs_of(job) == {"output": 1}

    with caplog.at_level(logging.WARNING, "asgipipe"):
        asyncio.run(main())
    assert runs == ["ended", "ended"]
    assert "attempt 1 is not its owner any more" in caplog.text


def _store_of(deployment: Deployment) -> JobStore:
    there = deployment.service.jobs._open
    assert there is not None
    return there.store


def _worker_of(deployment: Deployment) -> Worker:
    there = deployment.service.jobs._open
    assert there is not None
    assert there.worker is not None
    return there.worker


def test_a_worker_that_gets_its_own_job_again(store: Path) -> None:
    """The worker that has lost a job may be the next to claim it: the old attempt is dropped, the new one goes on."""
    gate, runs = Gate(), []

    @pipeline
    async def waiting() -> int:
        runs.append(1)
        number = len(runs)
        if number == 1:
            await gate.arrive()
        return number

    async def main() -> None:
        async with working(waiting, store) as deployment:
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            running = await in_state(deployment.service.jobs, accepted.id, "running")
            assert running.owner is not None
            await _store_of(deployment).take_over({running.owner}, lambda job, error: b"{}")
            deployment.service.jobs._queue.pending(0.0)
            job = await ended(deployment, accepted.id)
            assert (job.attempt, outputs_of(job)) == (2, {"output": 2})
            await until(lambda: deployment.lifecycle.active == 0)

    asyncio.run(main())


class Odd(BaseException):
    pass


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        RunCanceled("mine"),
        Odd("odd"),
        StopIteration(1),
        ExceptionGroup("several", [ValueError("a"), OSError("b")]),
        RecursionError("deep"),
        ValueError("x" * 1_000_000),
        ValueError("\ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_pipeline_raises(store: Path, error: BaseException, is_async: bool) -> None:
    """It is a failed job with an event and an envelope, and the next one is run."""

    def fails(now: bool) -> int:
        if now:
            raise error
        return 1

    async def fails_async(now: bool) -> int:
        return fails(now)

    async def main() -> None:
        async with working(fails_async if is_async else fails, store) as deployment:
            job = await ended(deployment, (await submitted(deployment, {"now": True})).id)
            assert (job.state, job.error_code) == (JobState.FAILED, "failed")
            assert json.loads(job.result or b"")["error"] == job.error
            assert len(job.as_json()) < 10_000
            job = await ended(deployment, (await submitted(deployment, {"now": False})).id)
            assert job.state is JobState.COMPLETED

    asyncio.run(main())


@pytest.mark.parametrize("error", [OSError("no such thing"), SystemExit(1)], ids=lambda error: type(error).__name__)
def test_a_service_that_raises(store: Path, error: BaseException) -> None:
    """A service of the user's that raises fails the job, says nothing of the inside, and the worker lives."""

    class Service(DeploymentService):
        async def invoke(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            raise error

    async def main() -> None:
        async with working(double, store, deployment_service_class=Service) as deployment:
            for _ in range(2):
                job = await ended(deployment, (await submitted(deployment)).id)
                assert (job.state, job.error) == (JobState.FAILED, "the server failed to run the job")

    asyncio.run(main())


def test_a_service_of_the_users_runs_jobs(store: Path) -> None:
    """What a service of the user's makes of `invoke` holds for jobs too."""
    seen: list[object] = []

    class Service(DeploymentService):
        async def invoke(self, parameters: dict[str, object], **options: object):  # type: ignore[no-untyped-def,override]
            seen.append(options["background"])
            return await super().invoke({"number": 10}, **options)  # type: ignore[arg-type]

    async def main() -> None:
        async with working(double, store, deployment_service_class=Service) as deployment:
            job = await ended(deployment, (await submitted(deployment, {"number": 1})).id)
            assert outputs_of(job) == {"output": 20}

    asyncio.run(main())
    assert seen == [True]


def test_a_place_is_free_when_its_thread_has_ended(store: Path) -> None:
    """Jobs that time out in a thread that goes on do not make room for more than `job_concurrency` threads."""
    gate = Gate()

    def blocking(wait: bool) -> None:
        if wait:
            gate.wait()

    async def main() -> None:
        async with working(blocking, store, job_concurrency=1) as deployment:
            stuck = await ended(deployment, (await submitted(deployment, {"wait": True}, timeout=0.05)).id)
            assert stuck.error_code == "timeout"
            second = await submitted(deployment, {"wait": False})
            await asyncio.sleep(0.05)
            assert (await found(deployment.service.jobs, second.id)).state is JobState.PENDING
            gate.open()
            assert (await ended(deployment, second.id)).state is JobState.COMPLETED

    asyncio.run(main())


def test_a_run_that_does_not_end(store: Path) -> None:
    """A run that swallows its cancellation holds up the stop for a moment only; its job was handed back before."""
    entered, stopped = asyncio.Event(), []

    @pipeline
    async def stubborn() -> None:
        entered.set()
        while not stopped:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def main() -> Job:
        async with working(stubborn, store, drain_timeout=0.01) as deployment:
            accepted = await submitted(deployment)
            await entered.wait()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 1.0
        stopped.append(True)
        async with working(stubborn, store, run_jobs=False) as look:
            return await found(look.service.jobs, accepted.id)

    job = asyncio.run(main())
    assert (job.state, job.attempt, job.losses) == (JobState.PENDING, 1, 0)


def test_a_cancel_that_comes_while_a_retry_waits(store: Path) -> None:
    """A job that waits for its next attempt is pending, so it is canceled at once."""

    def fails() -> None:
        raise ValueError("no luck")

    async def main() -> None:
        async with working(fails, store, job_retries=3, job_retry_delay=60) as deployment:
            jobs = deployment.service.jobs
            accepted = await submitted(deployment)
            async with asyncio.timeout(5):
                while (await found(jobs, accepted.id)).failures == 0:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.005)
            job = await jobs.cancel(accepted.id)
            assert (job.state, job.error) == (JobState.CANCELED, "the job was canceled")

    asyncio.run(main())
