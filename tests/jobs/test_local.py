"""What a deployment does with jobs, over a real file."""

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import time

import pytest

from asgipipe import Deployment, get_step_context, pipeline, step
from asgipipe.errors import (
    BadRequestError,
    ConflictError,
    DefinitionError,
    NotFoundError,
    StoreError,
    TooManyRequestsError,
    UnavailableError,
    ValidationError,
)
from asgipipe.jobs.jobs import IdempotencyKey, Replay, Submission
from asgipipe.jobs.states import JobState
from asgipipe.jobs.upkeep import forget_old
from asgipipe.stores.sqlite import SQLiteDatabase
from tests.http.wire import until
from tests.jobs.submitting import Gate, ended, events_of, found, in_state, outputs_of, submitted, working
from tests.running import started

KEY = IdempotencyKey("key", "caller", "fingerprint")


@pipeline
def double(number: int = 1) -> int:
    return 2 * number


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "store.db"


def test_a_job_from_beginning_to_end(store: Path) -> None:
    """A job is pending when it is accepted, is run by the same process, and ends with its envelope and one event."""

    @step
    def halve(number: int) -> float:
        get_step_context().progress(0.5, "half")
        return number / 2

    @pipeline
    async def halving(number: int, name: str = "x") -> float:
        return halve(number)

    async def main() -> None:
        async with working(halving, store) as deployment:
            jobs = deployment.service.jobs
            accepted = await submitted(deployment, {"number": 3, "name": "x"}, run_name="one")
            assert (accepted.state, accepted.attempt, accepted.run_name) == (JobState.PENDING, 0, "one")
            events = await events_of(jobs, accepted.id)
            job = await found(jobs, accepted.id)
            assert [event.id for event in events] == [*range(1, len(events) + 1)]
            assert [event.type for event in events] == [
                "pipeline_started",
                "step_started",
                "progress",
                "step_completed",
                "pipeline_completed",
            ]
            assert events[-1].data == job.result
            assert outputs_of(job) == {"output": 1.5}
            said = json.loads(job.as_json())
            assert (said["status"], said["attempt"], said["error"], said["error_code"]) == ("completed", 1, None, None)
            assert said["parameters"] == said["result"]["metadata"]["parameters_used"] == {"number": 3, "name": "x"}
            assert said["result"]["metadata"]["run_id"] == said["job_id"]
            assert said["progress"] == {"fraction": 0.5, "message": "half", "step_name": "halve"}
            assert said["execution_time"] > 0
            assert deployment.lifecycle.active == 0

    asyncio.run(main())


def test_nothing_is_written_before_it_is_needed(store: Path) -> None:
    """A deployment that accepts no jobs makes no file, and answers questions about jobs all the same."""

    async def main() -> None:
        async with working(double, store) as deployment:
            jobs = deployment.service.jobs
            assert await jobs.get("x") is None
            assert (await jobs.list()).jobs == ()
            assert set((await jobs.counts()).values()) == {0}
            with pytest.raises(NotFoundError):
                await jobs.cancel("x")
            with pytest.raises(NotFoundError):
                await anext(jobs.follow("x"))
            with pytest.raises(BadRequestError):
                await jobs.list(cursor="x")

    asyncio.run(main())
    assert not store.parent.exists()


def test_it_is_opened_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent first uses open the store once; one that fails fails for all of them, and the next one tries again."""
    opened: list[int] = []
    fails = [True]
    original = SQLiteDatabase.open

    async def open_store(self: SQLiteDatabase) -> None:
        opened.append(1)
        await asyncio.sleep(0.01)
        if fails:
            raise UnavailableError("not now")
        await original(self)

    monkeypatch.setattr(SQLiteDatabase, "open", open_store)

    async def main() -> None:
        async with working(double, store) as deployment:
            results = await asyncio.gather(*(submitted(deployment) for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [UnavailableError] * 5
            assert len(opened) == 1
            fails.clear()
            accepted = await asyncio.gather(*(submitted(deployment) for _ in range(5)))
            assert len(opened) == 2
            assert [(await ended(deployment, job.id)).state for job in accepted] == [JobState.COMPLETED] * 5

    asyncio.run(main())


def test_a_store_that_cannot_be_used_stops_the_start(store: Path) -> None:
    """A database of somebody else's is refused when the deployment starts, and left as it is."""
    occupy(store)
    with pytest.raises(StoreError, match="no SQLite database"):
        asyncio.run(_start_and_stop(Deployment(double, {"store_url": str(store)}, layers=())))
    assert store.read_text() == "not ours" * 1000


def occupy(store: Path) -> None:
    store.parent.mkdir()
    store.write_text("not ours" * 1000)


def test_a_store_that_becomes_unusable(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When it turns out at the first use, clients are told 503, the log says why, and the server lives."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as deployment:
            await asyncio.to_thread(occupy, store)
            with pytest.raises(UnavailableError):
                await submitted(deployment)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert str(store) in caplog.text


async def _start_and_stop(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.stop()


def test_a_wrong_queue_is_refused_when_the_deployment_is_built() -> None:
    """No request is needed to find out that a job queue cannot be made."""
    with pytest.raises(DefinitionError, match="job_queue: there is no job queue 'embeded'; did you mean 'embedded'"):
        Deployment(double, {"job_queue": "embeded"}, layers=())
    with pytest.raises(DefinitionError, match=r"job_queue EmbeddedQueue raised TypeError: .* no option 'colour'"):
        Deployment(double, {"job_queue_kwargs": {"colour": "red"}}, layers=())


def test_jobs_need_a_deployment_that_runs(store: Path) -> None:
    """Before the start and after the stop nothing is accepted."""

    async def main() -> None:
        deployment = Deployment(double, {"store_url": str(store)}, layers=())
        with pytest.raises(UnavailableError):
            await submitted(deployment)
        await _start_and_stop(deployment)
        with pytest.raises(UnavailableError):
            await submitted(deployment)

    asyncio.run(main())


def test_a_deployment_starts_again(store: Path) -> None:
    """After a stop the next start goes on with the same jobs, also on another event loop."""
    deployment = Deployment(double, {"store_url": str(store)}, layers=())
    ids: list[str] = []

    async def main() -> None:
        await deployment.start()
        ids.append((await submitted(deployment)).id)
        assert [(await ended(deployment, job_id)).state for job_id in ids] == [JobState.COMPLETED] * len(ids)
        await deployment.stop()

    asyncio.run(main())
    asyncio.run(main())
    assert len(ids) == 2


# Listing, counting, cancelling


def test_listing(store: Path) -> None:
    """The newest come first, filtered by state and page by page; counts are of a few seconds ago at most."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as deployment:
            jobs = deployment.service.jobs
            ids = [(await submitted(deployment)).id for _ in range(5)]
            await jobs.cancel(ids[0], reason="not wanted", by="me")
            page = await jobs.list(limit=2)
            assert ([job.id for job in page.jobs], page.total) == ([ids[4], ids[3]], 5)
            page = await jobs.list(limit=2, cursor=page.next_cursor)
            assert [job.id for job in page.jobs] == [ids[2], ids[1]]
            page = await jobs.list(state=JobState.CANCELED)
            assert ([job.id for job in page.jobs], page.total, page.next_cursor) == ([ids[0]], 1, None)
            counts = await jobs.counts()
            assert (counts[JobState.PENDING], counts[JobState.CANCELED]) == (4, 1)
            await submitted(deployment)
            assert await jobs.counts() == counts

    asyncio.run(main())


def test_cancelling_a_pending_job(store: Path) -> None:
    """It is canceled at once, with reason and name, a terminal event and an envelope; a second cancel is no error."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as deployment:
            jobs = deployment.service.jobs
            accepted = await submitted(deployment, {"number": 4})
            following = asyncio.ensure_future(events_of(jobs, accepted.id))
            await asyncio.sleep(0)
            job = await jobs.cancel(accepted.id, reason="not wanted", by="me")
            assert (job.state, job.canceled_by, job.cancel_reason) == (JobState.CANCELED, "me", "not wanted")
            assert (job.error, job.error_code) == ("the job was canceled: not wanted", "canceled")
            envelope = json.loads(job.result or b"")
            assert (envelope["success"], envelope["error"]) == (False, job.error)
            assert envelope["metadata"]["parameters_used"] == {"number": 4}
            assert [event.type for event in await following] == ["pipeline_canceled"]
            assert (await jobs.cancel(accepted.id, reason="again")).cancel_reason == "not wanted"

    asyncio.run(main())


def test_cancelling_a_running_job(store: Path) -> None:
    """It ends as canceled at its next await, and tells the reason; one that has ended cannot be cancelled."""
    gate = Gate()

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        async with working(waiting, store) as deployment:
            jobs = deployment.service.jobs
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            asked = await jobs.cancel(accepted.id, reason="enough")
            assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
            job = await ended(deployment, accepted.id)
            assert (job.state, job.cancel_reason, job.error_code) == (JobState.CANCELED, "enough", "canceled")
            assert job.error == "the job was canceled: enough"
            gate.open()
            done = await ended(deployment, (await submitted(deployment)).id)
            with pytest.raises(ConflictError):
                await jobs.cancel(done.id)

    asyncio.run(main())


# Limits and order


def test_the_limit_of_pending_jobs(store: Path) -> None:
    """More than `max_pending_jobs` are refused; delayed ones count too."""

    async def main() -> None:
        async with working(double, store, max_pending_jobs=2) as deployment:
            await submitted(deployment, delay=60)
            await submitted(deployment, delay=60)
            with pytest.raises(TooManyRequestsError):
                await submitted(deployment)

    asyncio.run(main())


def test_concurrency_and_priorities(store: Path) -> None:
    """At most `job_concurrency` jobs run at once; of those that wait, the highest priority is next, then the oldest."""
    gate, order = Gate(), []

    @pipeline
    async def noting(name: str) -> None:
        order.append(name)
        await gate.arrive()

    async def main() -> None:
        async with working(noting, store, job_concurrency=2) as deployment:
            first = [await submitted(deployment, {"name": name}) for name in ("a", "b")]
            await until(lambda: gate.entered == 2)
            rest = [
                await submitted(deployment, {"name": name}, priority=priority)
                for name, priority in (("c", 0), ("d", -1), ("e", 5), ("f", 0))
            ]
            await asyncio.sleep(0.02)
            assert gate.entered == 2
            assert deployment.lifecycle.active == 2
            gate.open()
            for job in (*first, *rest):
                await ended(deployment, job.id)
            assert order == ["a", "b", "e", "c", "f", "d"]

    asyncio.run(main())


def test_a_delayed_job(store: Path) -> None:
    """It is not run before its time, and then soon, though nobody says that the time has come."""

    async def main() -> None:
        async with working(double, store) as deployment:
            job = await ended(deployment, (await submitted(deployment, delay=0.2)).id)
            assert job.started_at is not None
            assert 0 <= job.started_at - job.due_at < 0.15
            assert job.due_at == pytest.approx(job.created_at + 0.2)

    asyncio.run(main())


# Failing


def failing(message: str = "no luck", times: int = 1_000) -> Callable[[], int]:
    calls = []

    def fails() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise ValueError(message)
        return len(calls)

    return fails


def test_a_pipeline_that_raises(store: Path) -> None:
    """The job has failed, with the exception's message, at once: nothing is retried unless that was asked for."""

    async def main() -> None:
        async with working(failing(), store) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.state, job.error, job.error_code) == (JobState.FAILED, "no luck", "failed")
            assert json.loads(job.result or b"")["error"] == "no luck"

    asyncio.run(main())


def test_messages_can_be_kept_back(store: Path) -> None:
    """`error_messages: false` holds for jobs too."""

    async def main() -> None:
        async with working(failing(), store, error_messages=False) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert job.error == "the pipeline failed"
            assert b"no luck" not in job.as_json()

    asyncio.run(main())


def test_retries(store: Path) -> None:
    """A job that raised is run again after a delay that doubles; events tell of it, and the count goes on."""

    async def main() -> None:
        async with working(failing(times=2), store, job_retry_delay=0.02) as deployment:
            accepted = await submitted(deployment, retries=3)
            events = await events_of(deployment.service.jobs, accepted.id)
            job = await found(deployment.service.jobs, accepted.id)
            assert (job.state, job.attempt, job.failures) == (JobState.COMPLETED, 3, 2)
            assert outputs_of(job) == {"output": 3}
            assert [event.type for event in events] == [
                *("pipeline_started", "retrying") * 2,
                "pipeline_started",
                "pipeline_completed",
            ]
            told = [json.loads(event.data) for event in events if event.type == "retrying"]
            assert [(one["attempt"], one["error"], one["delay"]) for one in told] == [
                (1, "no luck", 0.02),
                (2, "no luck", 0.04),
            ]

    asyncio.run(main())


def test_retries_come_to_an_end(store: Path) -> None:
    """After `job_retries` the job has failed with the last exception."""

    async def main() -> None:
        async with working(failing(), store, job_retries=1, job_retry_delay=0.01) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.state, job.attempt, job.error_code) == (JobState.FAILED, 2, "failed")

    asyncio.run(main())


@pytest.mark.parametrize("limit", [{"job_timeout": 0.05}, {"timeout": 0.05}])
def test_a_deadline(store: Path, limit: dict[str, float]) -> None:
    """A job past its deadline, its own or that of the settings, has failed as `timeout` and is not retried."""
    gate = Gate()
    settings = {name: value for name, value in limit.items() if name == "job_timeout"}

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        async with working(waiting, store, job_retries=3, **settings) as deployment:
            job = await ended(deployment, (await submitted(deployment, timeout=limit.get("timeout"))).id)
            assert (job.state, job.error_code, job.attempt) == (JobState.FAILED, "timeout", 1)
            assert job.error == "the run did not finish within 0.05 s"

    asyncio.run(main())


def test_code_that_has_changed(store: Path) -> None:
    """Parameters that the pipeline does not take any more fail the job, and the error says which, not what."""

    def agent(number: int) -> int:
        return number

    async def submit() -> str:
        async with working(pipeline(agent), store, run_jobs=False) as deployment:
            return (await submitted(deployment, {"number": 4711})).id

    def changed(text: str) -> str:
        return text

    async def run(job_id: str) -> None:
        async with working(pipeline(name="agent")(changed), store) as deployment:
            job = await ended(deployment, job_id)
            assert (job.state, job.error_code) == (JobState.FAILED, "invalid_parameters")
            assert job.error == "the pipeline does not accept the stored parameters any more: text, number"
            assert json.loads(job.result or b"")["success"] is False

    asyncio.run(run(asyncio.run(submit())))


# Idempotency keys


def test_a_key_of_a_job(store: Path) -> None:
    """The same key and request give the first job again, another request is refused."""

    async def main() -> None:
        async with working(double, store) as deployment:
            jobs = deployment.service.jobs
            first = await jobs.submit(Submission({"number": 1}), KEY)
            second = await jobs.submit(Submission({"number": 1}), KEY)
            assert not isinstance(first, Replay)
            assert second == Replay(first.id, 202, None)
            with pytest.raises(ValidationError):
                await jobs.submit(Submission({"number": 2}), IdempotencyKey("key", "caller", "other"))
            assert (await jobs.list()).total == 1

    asyncio.run(main())


def test_a_key_of_a_sync_run(store: Path) -> None:
    """It is in use while the run goes on, then has its answer; given back, it is as if it had not been used."""

    async def main() -> None:
        async with working(double, store) as deployment:
            jobs = deployment.service.jobs
            assert await jobs.reserve(KEY, "run-1") is None
            with pytest.raises(ConflictError):
                await jobs.reserve(KEY, "run-2")
            await jobs.release(KEY, "run-1")
            assert await jobs.reserve(KEY, "run-2") is None
            await jobs.answer(KEY, "run-2", 200, b"{}")
            assert await jobs.reserve(KEY, "run-3") == Replay("run-2", 200, b"{}")

    asyncio.run(main())


# What is remembered, and how long


@pytest.mark.parametrize(("job_resume", "calls"), [(True, 1), (False, 2)])
def test_resuming(store: Path, job_resume: bool, calls: int) -> None:
    """A job that is run again skips the steps whose results were kept, unless `job_resume` says otherwise."""
    counted: list[int] = []

    @step
    async def count() -> int:
        counted.append(1)
        return len(counted)

    @pipeline
    async def stumbling() -> int:
        number = await count()
        if get_step_context().run_id not in stumbled:
            stumbled.add(get_step_context().run_id)
            raise ValueError("once")
        return number

    stumbled: set[str] = set()

    async def main() -> None:
        settings = {"job_resume": job_resume, "job_retries": 1, "job_retry_delay": 0.01}
        async with working(stumbling, store, **settings) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (job.attempt, outputs_of(job)) == (2, {"output": calls})

    asyncio.run(main())


def test_the_lifetime_of_a_key(store: Path) -> None:
    """After `idempotency_ttl` seconds a key may be used for something else."""

    async def main() -> None:
        async with working(double, store, idempotency_ttl=0.05) as deployment:
            jobs = deployment.service.jobs
            first = await jobs.submit(Submission({"number": 1}), KEY)
            await asyncio.sleep(0.06)
            second = await jobs.submit(Submission({"number": 2}), IdempotencyKey("key", "caller", "other"))
            assert not isinstance(first, Replay)
            assert not isinstance(second, Replay)
            assert first.id != second.id

    asyncio.run(main())


@pytest.mark.parametrize("job_retention", [0.05, None])
def test_retention(store: Path, monkeypatch: pytest.MonkeyPatch, job_retention: float | None) -> None:
    """Finished jobs are forgotten after `job_retention` seconds, the others and those of null never."""
    monkeypatch.setattr("asgipipe.jobs.local.forget_old", partial(forget_old, interval=0.03))

    async def main() -> None:
        async with working(double, store, job_retention=job_retention) as deployment:
            jobs = deployment.service.jobs
            waiting = await submitted(deployment, delay=60)
            done = await ended(deployment, (await submitted(deployment)).id)
            await asyncio.sleep(0.2)
            async with asyncio.timeout(5):
                while job_retention is not None and await jobs.get(done.id):  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.01)
            assert (await jobs.get(done.id) is None) == (job_retention is not None)
            assert await jobs.get(waiting.id) is not None

    asyncio.run(main())


def test_keys_of_the_dead_where_nobody_runs_jobs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that has died took for a sync run is forgotten; what one that lives has taken is not."""
    monkeypatch.setattr("asgipipe.jobs.local.forget_old", partial(forget_old, interval=0.03))

    async def main() -> None:
        async with working(double, store, run_jobs=False) as deployment:
            jobs = deployment.service.jobs
            assert await jobs.reserve(KEY, "run-1") is None
            database = deployment.service.store.database
            held = "SELECT key FROM idempotency_keys ORDER BY key"
            dead = (
                "INSERT INTO idempotency_keys (deployment, caller, key, fingerprint, owner, run_id, expires_at)"
                " SELECT deployment, caller, 'dead', fingerprint, owner + 1, run_id, expires_at FROM idempotency_keys"
            )
            await database.write(lambda transaction: transaction.change(dead))
            async with asyncio.timeout(5):
                while await database.read(lambda transaction: transaction.rows(held)) != [(KEY.key,)]:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            with pytest.raises(ConflictError):
                await jobs.reserve(KEY, "run-2")

    asyncio.run(main())


def test_the_events_that_are_kept(store: Path) -> None:
    """Beyond `max_job_events` the oldest are forgotten, and who reads them is told so."""

    @pipeline
    async def talking() -> None:
        for number in range(300):
            get_step_context().emit(number)

    async def main() -> None:
        async with working(talking, store, max_job_events=100) as deployment:
            accepted = await submitted(deployment)
            await in_state(deployment.service.jobs, accepted.id, "completed")
            events = await events_of(deployment.service.jobs, accepted.id)
            assert events[0].type == "log"
            assert len(events) <= 101
            assert events[-1].id == 302

    asyncio.run(main())


def test_the_events_that_are_held(store: Path) -> None:
    """At most `subscriber_queue` events come at once to a follower who is behind; none is missing."""

    @pipeline
    async def talking() -> None:
        for number in range(50):
            get_step_context().emit(number)

    async def main() -> None:
        async with working(talking, store, subscriber_queue=7) as deployment:
            accepted = await submitted(deployment)
            await in_state(deployment.service.jobs, accepted.id, "completed")
            groups = [group async for group in deployment.service.jobs.follow(accepted.id)]
            assert max(map(len, groups)) == 7
            assert [event.id for group in groups for event in group] == [*range(1, 53)]

    asyncio.run(main())


# Several in one store


def test_a_replica_that_runs_no_jobs(store: Path) -> None:
    """With `run_jobs: false` it accepts, lists, follows and cancels; another one, started later, runs them."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            front = await stack.enter_async_context(working(double, store, run_jobs=False))
            accepted = await submitted(front, {"number": 21})
            following = asyncio.ensure_future(events_of(front.service.jobs, accepted.id))
            await asyncio.sleep(0.05)
            assert (await found(front.service.jobs, accepted.id)).state is JobState.PENDING
            await stack.enter_async_context(working(double, store))
            assert [event.type for event in await following] == ["pipeline_started", "pipeline_completed"]
            assert outputs_of(await found(front.service.jobs, accepted.id)) == {"output": 42}

    asyncio.run(main())


def test_a_replica_that_was_declared_dead(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs no jobs goes on as another worker, so that nobody else may take the keys that it reserves."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as front:
            await submitted(front)
            database = front.service.store.database
            usual, numbers = database.dead, set[int]()

            async def dead(workers: Collection[int]) -> set[int]:
                numbers.update(workers)
                return {number for number in workers if number == min(numbers)} | await usual(workers)

            monkeypatch.setattr(database, "dead", dead)
            await until(lambda: len(numbers) == 2)

    asyncio.run(main())


def test_a_store_that_somebody_else_makes(store: Path) -> None:
    """A worker that started before there was a store runs the jobs of the one that is made."""

    async def main() -> None:
        async with working(double, store), working(double, store, run_jobs=False) as front:
            assert not await asyncio.to_thread(store.exists)
            job = await ended(front, (await submitted(front)).id)
            assert job.state is JobState.COMPLETED

    asyncio.run(main())


def test_deployments_that_share_a_store(store: Path) -> None:
    """Each has jobs of its own: another one neither runs nor lists nor finds them."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as one, working(failing(), store) as other:
            accepted = await submitted(one)
            assert (await ended(other, (await submitted(other)).id)).state is JobState.FAILED
            assert await other.service.jobs.get(accepted.id) is None
            assert (await one.service.jobs.list()).total == (await other.service.jobs.list()).total == 1
            assert (await found(one.service.jobs, accepted.id)).state is JobState.PENDING

    asyncio.run(main())


def test_cancelling_from_elsewhere(store: Path) -> None:
    """A job that another process runs is cancelled within 250 ms."""
    gate = Gate()

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        async with working(waiting, store) as back, working(waiting, store, run_jobs=False) as front:
            accepted = await submitted(front)
            await until(lambda: gate.entered)
            await in_state(front.service.jobs, accepted.id, "running")
            asked = time()
            await front.service.jobs.cancel(accepted.id, reason="enough")
            job = await ended(back, accepted.id)
            assert job.state is JobState.CANCELED
            assert job.completed_at is not None
            assert job.completed_at - asked < 0.25

    asyncio.run(main())


# The end


def test_draining(store: Path) -> None:
    """Nothing new is accepted or begun, what runs goes on, and followers of jobs that do not run here are let go."""
    gate = Gate()

    @pipeline
    async def waiting() -> int:
        await gate.arrive()
        return 1

    async def main() -> None:
        async with working(waiting, store, job_concurrency=1, drain_timeout=10) as deployment:
            jobs = deployment.service.jobs
            running, pending = await submitted(deployment), await submitted(deployment)
            here = asyncio.ensure_future(events_of(jobs, running.id))
            elsewhere = asyncio.ensure_future(events_of(jobs, pending.id))
            await until(lambda: gate.entered)
            deployment.lifecycle.begin_drain()
            assert await elsewhere == []
            with pytest.raises(UnavailableError):
                await submitted(deployment)
            with pytest.raises(UnavailableError):
                await anext(jobs.follow(pending.id))
            gate.open()
            await deployment.lifecycle.drained()
            assert [event.type for event in await here][-1] == "pipeline_completed"
            assert (await found(jobs, pending.id)).state is JobState.PENDING

    asyncio.run(main())


def test_a_drain_during_the_start(store: Path) -> None:
    """A deployment that is told to drain before it has started begins no job of those that wait; its next life does."""

    async def main() -> None:
        async with working(double, store, run_jobs=False) as front:
            waiting = await submitted(front)
        asked = Gate()
        settings = {"store_url": str(store), "startup_hook": asked.arrive}
        deployment = Deployment(double, settings, layers=())
        starting = asyncio.create_task(deployment.start())
        await until(lambda: asked.entered)
        deployment.lifecycle.begin_drain()
        asked.open()
        await starting
        with pytest.raises(UnavailableError):
            await submitted(deployment)
        assert deployment.lifecycle.active == 0
        await deployment.stop()
        async with working(double, store) as back:
            assert (await ended(back, waiting.id)).attempt == 1

    asyncio.run(main())


def test_a_stop_while_the_store_is_opened(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the store when the deployment stops is refused, and not cancelled."""
    registering = asyncio.Event()

    async def register(_: SQLiteDatabase) -> int:
        registering.set()
        await asyncio.sleep(60)
        return 1

    monkeypatch.setattr(SQLiteDatabase, "register", register)

    async def main() -> None:
        async with working(double, store) as deployment:
            submitting = asyncio.create_task(submitted(deployment))
            await registering.wait()
        with pytest.raises(UnavailableError):
            await submitting

    asyncio.run(main())


@pytest.mark.parametrize("abandoned", [True, False])
def test_what_does_not_finish_is_handed_back(store: Path, abandoned: bool) -> None:
    """When the grace is over a job is pending again, which counts as nothing; the next start runs it."""
    gate, runs = Gate(), []

    @pipeline
    async def waiting() -> int:
        runs.append(1)
        await gate.arrive()
        return len(runs)

    async def first() -> str:
        async with working(waiting, store) as deployment:
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            if abandoned:
                deployment.lifecycle.begin_drain()
                await deployment.lifecycle.abandon()
                await deployment.lifecycle.drained()
        return accepted.id

    async def second(job_id: str) -> None:
        gate.open()
        async with working(waiting, store) as deployment:
            job = await ended(deployment, job_id)
            assert (job.state, job.attempt, job.losses, job.failures) == (JobState.COMPLETED, 2, 0, 0)

    asyncio.run(second(asyncio.run(first())))


def test_a_job_that_finishes_in_time(store: Path) -> None:
    """A stop waits for running jobs as long as `drain_timeout` allows."""
    gate = Gate()

    @pipeline
    async def waiting() -> int:
        await gate.arrive()
        return 1

    async def main() -> str:
        async with working(waiting, store, drain_timeout=10) as deployment:
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            asyncio.get_running_loop().call_later(0.05, gate.open)
        return accepted.id

    async def look(job_id: str) -> JobState:
        async with working(waiting, store, run_jobs=False) as deployment:
            return (await found(deployment.service.jobs, job_id)).state

    assert asyncio.run(look(asyncio.run(main()))) is JobState.COMPLETED


def test_jobs_live_between_the_hooks(store: Path) -> None:
    """No job begins before the startup hook has ended, or goes on when the shutdown hook is called."""
    calls: list[str] = []

    async def hook(name: str) -> None:
        calls.append(name)

    @pipeline
    async def noting() -> None:
        calls.append("begin")
        try:
            await asyncio.sleep(30)
        finally:
            calls.append("end")

    async def submit() -> None:
        async with working(noting, store, run_jobs=False) as deployment:
            await submitted(deployment)

    async def main() -> None:
        hooks = {
            "startup_hook": hook,
            "startup_hook_kwargs": {"name": "startup"},
            "shutdown_hook": hook,
            "shutdown_hook_kwargs": {"name": "shutdown"},
        }
        async with working(noting, store, **{**hooks, "drain_timeout": 0.05}):
            await until(lambda: "begin" in calls)

    asyncio.run(submit())
    asyncio.run(main())
    assert calls == ["startup", "begin", "end", "shutdown"]


def test_memory_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`memory:` runs jobs without leaving anything behind."""
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with started(double, {"store_url": "memory:"}) as deployment:
            assert outputs_of(await ended(deployment, (await submitted(deployment)).id)) == {"output": 2}

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []
