"""The queue of the store: when it looks for work, and that it does not look otherwise."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from asgipipe import pipeline
from asgipipe.errors import UnavailableError
from asgipipe.jobs.embedded import EmbeddedQueue
from asgipipe.jobs.queue import Consumer
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database
from asgipipe.stores.sqlite import watcher
from tests.http.wire import until
from tests.jobs.submitting import PATIENCE, ended, submitted, working


class Store:
    """A database that says when it has changed."""

    def __init__(self) -> None:
        self.watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self.watchers.append(changed)
        return lambda: self.watchers.remove(changed)

    def change(self) -> None:
        for changed in self.watchers:
            changed()


class Worker:
    """A consumer with as many due jobs as the test says; counts how often it is asked for what."""

    concurrency = 2

    def __init__(self) -> None:
        self.store = Store()
        self.database = cast(Database, self.store)
        self.draining = False
        self.fails = 0
        self.error: Exception = UnavailableError("not now")
        self.due = 0
        self.next: float | None = None
        self.running = 0
        self.taken: list[int] = []
        self.asked = 0
        self.asked_before_claim = 0
        self.freed = asyncio.Event()

    @property
    def room(self) -> int:
        return 0 if self.draining else self.concurrency - self.running

    async def has_room(self) -> bool:
        while not self.room and not self.draining:
            self.freed.clear()
            await self.freed.wait()
        return not self.draining

    def end(self) -> None:
        self.running -= 1
        self.freed.set()

    async def take(self) -> int:
        if self.fails:
            self.fails -= 1
            raise self.error
        self.asked_before_claim = self.asked
        count = min(self.room, self.due)
        self.due -= count
        self.running += count
        self.taken.append(count)
        return count

    async def next_due(self) -> float | None:
        self.asked += 1
        return 0.0 if self.due else self.next

    async def run(self, job_id: str) -> None:
        raise AssertionError("it takes jobs in batches")


async def settled(worker: Worker) -> None:
    """Wait until the queue has nothing to do."""
    seen = -1
    while seen != len(worker.taken) + worker.asked:
        seen = len(worker.taken) + worker.asked
        await asyncio.sleep(0.01)


def queue_test(body: Callable[[EmbeddedQueue, Worker], object], look: float = 60.0) -> None:
    async def main() -> None:
        worker, now = Worker(), 1000.0
        queue = EmbeddedQueue(look=look, clock=lambda: now)
        await queue.start(cast(Consumer, worker))
        try:
            await settled(worker)
            await body(queue, worker)  # type: ignore[misc]
        finally:
            await queue.stop()
        assert worker.store.watchers == []

    asyncio.run(main())


def test_it_is_idle() -> None:
    """After the first look it does nothing at all, as long as nothing happens."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        before = worker.asked, len(worker.taken)
        await asyncio.sleep(0.2)
        assert (worker.asked, len(worker.taken)) == before == (1, 1)

    queue_test(body)


def test_a_local_job_is_claimed_at_once() -> None:
    """No question is asked before the claim; a job that is due later is not claimed, but waited for."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        worker.due = 1
        asked = worker.asked
        queue.pending(999.0)
        await until(lambda: worker.taken[-1] == 1)
        assert worker.asked_before_claim == asked
        await settled(worker)
        claims = len(worker.taken)
        queue.pending(2000.0)
        await settled(worker)
        assert len(worker.taken) == claims

    queue_test(body)


def test_a_change_of_others_is_looked_at_before_it_is_claimed() -> None:
    """Claims lock the store, so there is none while there is nothing to be had."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        claims, asked = len(worker.taken), worker.asked
        worker.store.change()
        await until(lambda: worker.asked > asked)
        assert len(worker.taken) == claims
        worker.due = 1
        worker.store.change()
        await until(lambda: len(worker.taken) > claims)

    queue_test(body)


def test_it_waits_for_room() -> None:
    """A full worker is not bothered; one place that becomes free is filled."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        worker.due = 5
        queue.pending(0.0)
        await until(lambda: worker.running == 2)
        asked = worker.asked, len(worker.taken)
        for _ in range(3):
            queue.pending(0.0)
            worker.store.change()
            await asyncio.sleep(0.01)
        assert (worker.asked, len(worker.taken)) == asked
        worker.end()
        await until(lambda: worker.due == 2)
        assert worker.running == 2

    queue_test(body)


def test_it_looks_when_it_was_told_nothing() -> None:
    """Every `look` seconds it looks by itself."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        worker.due = 1
        await until(lambda: worker.running == 1)

    queue_test(body, look=0.05)


@pytest.mark.parametrize("error", [UnavailableError("not now"), RuntimeError("no such table")])
def test_a_store_that_cannot_be_reached(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """It is asked again, less and less often, whatever it raises, and the log says so once."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        worker.fails, worker.due, worker.error = 2, 1, error
        queue.pending(0.0)
        await until(lambda: worker.running == 1)

    queue_test(body)
    assert caplog.text.count("cannot reach the store") == 1


def test_a_drain_ends_it() -> None:
    """Nothing is claimed any more, whatever comes; it can be started again after a stop."""

    async def body(queue: EmbeddedQueue, worker: Worker) -> None:
        worker.draining = True
        worker.freed.set()
        await queue.drain()
        claims = len(worker.taken)
        worker.due = 1
        queue.pending(0.0)
        worker.store.change()
        await asyncio.sleep(0.02)
        assert len(worker.taken) == claims
        await queue.stop()
        worker.draining = False
        await queue.start(cast(Consumer, worker))
        await until(lambda: worker.running == 1)

    queue_test(body)


# With everything else


def test_an_idle_deployment_leaves_the_store_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no job runs anywhere, neither the queue nor anything else asks the store."""
    asked = _asked(monkeypatch)

    async def main() -> None:
        async with working(pipeline(lambda: 1), tmp_path / "store.db") as deployment:
            await ended(deployment, (await submitted(deployment)).id)
            await asyncio.sleep(0.3)
            asked.clear()
            await asyncio.sleep(0.5)
            assert asked == []

    asyncio.run(main())


def test_recorded_runs_are_no_reason_to_look_for_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process writes down of its runs has nobody ask the store for jobs."""
    monkeypatch.setattr(watcher, "_ANSWER", PATIENCE)
    asked = _asked(monkeypatch)

    async def main() -> None:
        async with working(pipeline(lambda: 1), tmp_path / "store.db", capture={"mode": "BATCH"}) as deployment:
            await ended(deployment, (await submitted(deployment)).id)
            await asyncio.sleep(0.3)
            asked.clear()
            for _ in range(5):
                await deployment.service.invoke({})
                await asyncio.sleep(0.1)
            assert asked == []

    asyncio.run(main())


def _asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of what the store is asked for on the way to its jobs."""
    asked: list[str] = []
    for name in ("claim", "next_due", "owners", "cancel_requests", "owned"):
        original = getattr(JobStore, name)

        def method(*args: object, _name: str = name, _original: Callable[..., object] = original) -> object:
            asked.append(_name)
            return _original(*args)

        monkeypatch.setattr(JobStore, name, method)
    return asked


def test_a_local_job_begins_soon(tmp_path: Path) -> None:
    """Between the submit and the beginning of the attempt there are milliseconds, on a quiet machine one or two."""

    async def main() -> list[float]:
        async with working(pipeline(lambda: 1), tmp_path / "store.db") as deployment:
            waits = []
            for _ in range(10):
                job = await ended(deployment, (await submitted(deployment)).id)
                assert job.started_at is not None
                waits.append(job.started_at - job.created_at)
            return waits

    assert sorted(asyncio.run(main()))[5] < 0.05


def test_a_job_of_another_process_begins_soon(tmp_path: Path) -> None:
    """What somebody else has submitted begins within 100 ms."""

    async def main() -> list[float]:
        store, target = tmp_path / "store.db", pipeline(name="target")(lambda: 1)
        async with working(target, store, run_jobs=False) as front:
            await submitted(front)
            async with working(target, store):
                waits = []
                for _ in range(5):
                    job = await ended(front, (await submitted(front)).id)
                    assert job.started_at is not None
                    waits.append(job.started_at - job.created_at)
                return waits

    assert sorted(asyncio.run(main()))[2] < 0.1


def test_it_works_over_postgresql(postgresql_url: str) -> None:
    """The queue of the store is that of every store: here another process's job is run, and a delayed one."""

    async def main() -> None:
        target = pipeline(name="target")(lambda: 1)
        async with (
            working(target, postgresql_url, job_queue="embedded"),
            working(target, postgresql_url, job_queue="embedded", run_jobs=False) as front,
        ):
            for delay in (0.0, 0.1):
                job = await ended(front, (await submitted(front, delay=delay)).id)
                assert (job.state, job.attempt) == ("completed", 1)

    asyncio.run(main())
