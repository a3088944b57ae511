"""`python -m tests.benchmarks.queues NAME STORE STORE SECONDS CONCURRENCY`: one queue, in a process of its own.

Prints what it did as JSON, see `Throughput`. A STORE is the path of a file, or the URL of a PostgreSQL database: one to
submit to while nobody works, one to work with.
"""

import asyncio
import contextlib
import json
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final

from tests.benchmarks import workload
from tests.benchmarks.asgi import running

_LOOK: Final = 0.02
"""Seconds between looks at how many jobs have ended."""
_PATIENCE: Final = 120.0
_BACKLOG: Final = 10_000_000

CITY, TEMPERATURE, HUMIDITY = "  new   york ", 23.46, workload.DEFAULT_HUMIDITY


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs per second: `submitted` while nobody works, `done` from the first submit to the last durable result."""

    submitted: float
    done: float


class Queue(ABC):
    """A queue with a store of its own."""

    def __init__(self, store: str, concurrency: int) -> None:
        self.store = store
        self.concurrency = concurrency

    @abstractmethod
    def opened(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Make it ready to take jobs."""

    @abstractmethod
    def working(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Run jobs, `concurrency` at once."""

    @abstractmethod
    async def submit(self) -> None:
        """Return when a job is durable."""

    @abstractmethod
    async def ended(self) -> int:
        """Return how many jobs have a durable result."""

    async def submit_for(self, seconds: float) -> int:
        """Submit from `concurrency` places at once; return how many jobs that were."""
        deadline = time.perf_counter() + seconds

        async def submitter() -> int:
            count = 0
            while time.perf_counter() < deadline:
                await self.submit()
                count += 1
            return count

        return sum(await asyncio.gather(*(submitter() for _ in range(self.concurrency))))

    async def all_ended(self, count: int) -> None:
        deadline = time.perf_counter() + _PATIENCE
        while (ended := await self.ended()) < count:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{ended} of {count} jobs ended within {_PATIENCE:g} s")
            await asyncio.sleep(_LOOK)


class AsgipipeQueue(Queue):
    """The jobs of a deployment; workers are started with it, or not at all, so it is opened for either."""

    works = False
    resumes = True

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        from asgipipe import Deployment
        from tests.benchmarks.pipelines import weather_async

        settings: Mapping[str, object] = {
            "store_url": self.store,
            "run_jobs": self.works,
            "job_concurrency": self.concurrency,
            "job_resume": self.resumes,
            "max_pending_jobs": _BACKLOG,
        }
        deployment = Deployment(weather_async, settings)
        self._jobs = deployment.service.jobs
        async with running(deployment.asgi_app):
            yield

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self.works = True
        async with self.opened():
            yield

    async def submit(self) -> None:
        from asgipipe.jobs.jobs import Submission

        parameters: dict[str, object] = {"city": CITY, "temperature": TEMPERATURE, "humidity": HUMIDITY}
        await self._jobs.submit(Submission(parameters))

    async def ended(self) -> int:
        from asgipipe.jobs.states import JobState

        return (await self._jobs.list(state=JobState.COMPLETED, limit=1)).total


class ForgetfulQueue(AsgipipeQueue):
    """The same, where a job that lost its worker begins anew: what a step returned is not written before the next."""

    resumes = False


class HueyQueue(Queue):
    """huey in SQLite with `fsync`, submitters and workers in threads, results kept."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        from huey import SqliteHuey

        self._huey = SqliteHuey(filename=self.store, fsync=True)
        self._analyse = self._huey.task()(workload.analyse)
        yield

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.opened():
            # An idle worker looks again after 1 to 10 ms, which is far less than by default.
            consumer = self._huey.create_consumer(
                workers=self.concurrency, periodic=False, initial_delay=0.001, max_delay=0.01, check_worker_health=False
            )
            consumer.start()
            try:
                yield
            finally:
                await asyncio.to_thread(consumer.stop, graceful=True)

    async def submit(self) -> None:
        raise NotImplementedError("submitters are threads")

    async def submit_for(self, seconds: float) -> int:
        deadline = time.perf_counter() + seconds
        counts: list[int] = []

        def submitter() -> None:
            count = 0
            while time.perf_counter() < deadline:
                self._analyse(CITY, TEMPERATURE, HUMIDITY)
                count += 1
            counts.append(count)

        threads = [threading.Thread(target=submitter) for _ in range(self.concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        return sum(counts)

    async def ended(self) -> int:
        count: int = await asyncio.to_thread(self._huey.result_count)
        return count


class ProcrastinateQueue(Queue):
    """procrastinate in PostgreSQL, everything on one event loop."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        import procrastinate

        pool = {"min_size": self.concurrency, "max_size": 2 * self.concurrency + 4}
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self.store, **pool))

        async def analyse(city: str, temperature: float, humidity: float) -> workload.Analysis:
            return workload.analyse(city, temperature, humidity)

        self._analyse = self._app.task(analyse, name="analyse")
        async with self._app.open_async():
            if not await self._app.check_connection_async():
                await self._app.schema_manager.apply_schema_async()
            yield

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.opened():
            worker = asyncio.create_task(
                self._app.run_worker_async(concurrency=self.concurrency, install_signal_handlers=False)
            )
            try:
                yield
            finally:
                worker.cancel()
                await asyncio.wait([worker])

    async def submit(self) -> None:
        await self._analyse.defer_async(city=CITY, temperature=TEMPERATURE, humidity=HUMIDITY)

    async def ended(self) -> int:
        sql = "SELECT COUNT(*) AS count FROM procrastinate_jobs WHERE status = 'succeeded'"
        row = await self._app.connector.execute_query_one_async(sql)
        count: int = row["count"]
        return count


QUEUES: Final[Mapping[str, Callable[[str, int], Queue]]] = {
    "asgipipe": AsgipipeQueue,
    "asgipipe_forgetful": ForgetfulQueue,
    "huey": HueyQueue,
    "procrastinate": ProcrastinateQueue,
}


async def submits(queue: Queue, seconds: float) -> float:
    """Return how many jobs a second are accepted while nobody works."""
    async with queue.opened():
        await queue.submit_for(seconds / 10)
        began = time.perf_counter()
        count = await queue.submit_for(seconds)
        return count / (time.perf_counter() - began)


async def ends(queue: Queue, seconds: float) -> float:
    """Return how many jobs a second are submitted, run and written down, when submitting takes `seconds`."""
    async with queue.working():
        await queue.all_ended(await queue.submit_for(seconds / 10))
        before = await queue.ended()
        began = time.perf_counter()
        count = await queue.submit_for(seconds)
        await queue.all_ended(before + count)
        return count / (time.perf_counter() - began)


async def measure(make: Callable[[str], Queue], stores: Sequence[str], seconds: float) -> Throughput:
    """Measure a queue, with a store for each of the two figures."""
    first, second = stores
    return Throughput(await submits(make(first), seconds), await ends(make(second), seconds))


def main(arguments: Sequence[str]) -> None:
    """Measure the queue and print what it did."""
    import uvloop  # not on every system that runs the tests

    name, *stores, seconds, concurrency = arguments
    throughput = uvloop.run(measure(lambda store: QUEUES[name](store, int(concurrency)), stores, float(seconds)))
    json.dump(asdict(throughput), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
