"""Finding a job queue, and what the contract asks of one that somebody else writes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from asgipipe import pipeline
from asgipipe.errors import DefinitionError, UnavailableError
from asgipipe.jobs.embedded import EmbeddedQueue
from asgipipe.jobs.queue import BaseJobQueue, Consumer, load_queue
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database, Transaction
from tests.http.wire import until
from tests.jobs.submitting import Gate, ended, found, outputs_of, submitted, working


class LibraryQueue(BaseJobQueue):
    """As one over a library: it is told of jobs in their transaction, and has a handler that awaits each of them."""

    def __init__(self, *, deliveries: int = 1, **options: object) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.errors: list[Exception] = []
        self._deliveries = deliveries
        self._added: list[tuple[str, float]] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._consumer: Consumer | None = None

    async def open(self, database: Database) -> None:
        self.calls.append("open")

    def on_pending(self, transaction: Transaction, job_id: str, priority: int, due_at: float) -> None:
        self._added.append((job_id, due_at))

    def pending(self, due_at: float) -> None:
        self.deliver()

    def deliver(self) -> None:
        if self._consumer is None:
            return
        added, self._added = self._added, []
        for job_id, _ in added * self._deliveries:
            task = asyncio.create_task(self._handle(self._consumer, job_id))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

    async def _handle(self, consumer: Consumer, job_id: str) -> None:
        while True:
            try:
                await consumer.run(job_id)
                self.calls.append("handled")
                return
            except UnavailableError as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)

    @property
    def handling(self) -> int:
        return len(self._handlers)

    async def start(self, consumer: Consumer) -> None:
        self.calls.append("start")
        self._consumer = consumer

    async def drain(self) -> None:
        self.calls.append("drain")
        self._consumer = None

    async def stop(self) -> None:
        self.calls.append("stop")


class Broken(LibraryQueue):
    def __init__(self) -> None:
        raise OSError("no such broker")


@pytest.mark.parametrize(
    "given", [None, "embedded", "asgipipe.jobs.embedded:EmbeddedQueue", "asgipipe.jobs.embedded.EmbeddedQueue"]
)
def test_the_embedded_queue_by_name(given: object) -> None:
    """It is the one of SQLite stores and of memory, and can be named in all the usual ways."""
    for url in (None, "memory:", "kept/store.db"):
        assert type(load_queue(given, url, {})) is EmbeddedQueue
    assert type(load_queue("embedded", "postgresql://x/y", {})) is EmbeddedQueue


def test_a_queue_of_somebody_elses() -> None:
    """A class, or an import string of one, with its options."""
    made = load_queue(LibraryQueue, None, {"deliveries": 3})
    assert isinstance(made, LibraryQueue)
    assert type(load_queue("tests.jobs.test_queue:LibraryQueue", None, {})) is LibraryQueue


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("embeded", {}, "job_queue: there is no job queue 'embeded'; did you mean 'embedded'?"),
        ("zzz", {}, "job_queue: there is no job queue 'zzz'; there are: embedded, postgres"),
        ("nowhere.at_all:Queue", {}, "job_queue: 'nowhere.at_all:Queue': there is no module named 'nowhere.at_all'"),
        ("pathlib:Path", {}, "job_queue 'pathlib:Path' is not a subclass of BaseJobQueue"),
        (EmbeddedQueue, {"colour": "red"}, "takes no option 'colour'"),
        (Broken, {}, "job_queue Broken raised OSError: no such broker"),
    ],
)
def test_queues_that_there_are_not(given: object, options: dict[str, object], message: str) -> None:
    """The error names the setting and the way out."""
    with pytest.raises(DefinitionError) as caught:
        load_queue(given, None, options)
    assert message in str(caught.value)


@pytest.mark.parametrize("deliveries", [1, 3])
def test_one_that_stands_on_a_library(tmp_path: Path, deliveries: int) -> None:
    """Its handler returns when the job has ended, not before; a job that is delivered several times is run once."""
    gate, runs, queues = Gate(), [], []

    @pipeline
    async def waiting() -> int:
        runs.append(1)
        await gate.arrive()
        return 1

    class Queue(LibraryQueue):
        def __init__(self, **options: object) -> None:
            super().__init__(deliveries=deliveries)
            queues.append(self)

    async def main() -> None:
        async with working(waiting, tmp_path / "store.db", job_queue=Queue) as deployment:
            accepted = await submitted(deployment)
            await until(lambda: gate.entered)
            await asyncio.sleep(0.02)
            (queue,) = queues
            assert queue.handling == deliveries
            gate.open()
            assert (await ended(deployment, accepted.id)).state is JobState.COMPLETED
            await until(lambda: queue.handling == 0)
        assert runs == [1]
        assert [call for call in queue.calls if call != "handled"] == ["open", "start", "drain", "stop"]

    asyncio.run(main())


def test_a_delivery_whose_claim_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is to be repeated, and finds the job that was claimed without anybody being told so."""
    original: Callable[..., object] = JobStore.claim_one
    calls: list[int] = []

    async def claim_one(self: JobStore, owner: int, job_id: str) -> object:
        result = await original(self, owner, job_id)  # type: ignore[misc]
        calls.append(1)
        if len(calls) == 1:
            raise UnavailableError("the connection was lost")
        return result

    monkeypatch.setattr(JobStore, "claim_one", claim_one)

    async def main() -> None:
        async with working(pipeline(lambda: 7), tmp_path / "store.db", job_queue=LibraryQueue) as deployment:
            job = await ended(deployment, (await submitted(deployment)).id)
            assert (outputs_of(job), job.attempt) == ({"output": 7}, 1)

    asyncio.run(main())


def test_a_delivery_waits_for_room(tmp_path: Path) -> None:
    """However many jobs a library delivers at once, not more than `job_concurrency` run."""
    gate = Gate()

    @pipeline
    async def waiting() -> None:
        await gate.arrive()

    async def main() -> None:
        settings = {"job_queue": LibraryQueue, "job_concurrency": 2}
        async with working(waiting, tmp_path / "store.db", **settings) as deployment:
            jobs = [await submitted(deployment) for _ in range(5)]
            await until(lambda: gate.entered == 2)
            await asyncio.sleep(0.02)
            assert gate.entered == 2
            states = [(await found(deployment.service.jobs, job.id)).state for job in jobs]
            assert states.count(JobState.PENDING) == 3
            gate.open()
            for job in jobs:
                await ended(deployment, job.id)

    asyncio.run(main())
