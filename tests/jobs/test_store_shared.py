"""One store, several processes."""

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database, Transaction
from asgipipe.stores.registry import database
from asgipipe.testing.jobstores import DAY, KEY, Connect, envelope, pending_job

PROGRAM = Path(__file__).with_name("claiming.py")
PATIENCE = 30.0
JOBS = 1000

T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    found: str = request.getfixturevalue("postgresql_url")
    return found


@contextmanager
def claiming(url: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, PROGRAM, url, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def with_store(url: str, work: Callable[[JobStore, Database], Awaitable[T]]) -> T:
    async def run() -> T:
        place = database(url)
        await place.open()
        try:
            return await work(JobStore(place, "d"), place)
        finally:
            await place.close()

    return asyncio.run(run())


async def submit(store: JobStore, _: Database) -> set[str]:
    jobs = [pending_job(now=time.time()) for _ in range(JOBS)]
    await asyncio.gather(*(store.insert(job, limit=JOBS) for job in jobs))
    return {job.id for job in jobs}


async def ends(store: JobStore, place: Database) -> Counter[str]:
    """Return how many terminal events each job has."""
    assert (await store.counts())[JobState.COMPLETED] == JOBS
    sql = "SELECT job_id FROM events WHERE type = 'pipeline_completed'"

    def operation(transaction: Transaction) -> Counter[str]:
        return Counter(str(job_id) for (job_id,) in transaction.rows(sql))

    return await place.read(operation)


def wait_until_stopped(process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_job_is_owned_twice(url: str) -> None:
    """Four processes finish 1000 jobs, each once; one that was frozen while it owned some finds its commits refused."""
    submitted = with_store(url, submit)
    with ExitStack() as stack:
        frozen = stack.enter_context(claiming(url, "frozen"))
        assert frozen.stdout is not None
        number = int(frozen.stdout.readline())
        wait_until_stopped(frozen)
        lost = with_store(url, lambda store, _: store.take_over({number}, envelope))
        others = [stack.enter_context(claiming(url)) for _ in range(3)]
        frozen.send_signal(signal.SIGCONT)
        said = [process.communicate(timeout=PATIENCE)[0].split("\n") for process in (frozen, *others)]
        assert [process.returncode for process in (frozen, *others)] == [0] * 4
    lines = Counter(line for text in said for line in text if " " in line)
    assert len(lost) == 25
    assert {line for line in lines if line.startswith("refused")} == {f"refused {job.id} 1" for job in lost}
    finished = {f"finished {job} 1" for job in submitted - {job.id for job in lost}}
    assert {line for line in lines if line.startswith("finished")} == finished | {
        f"finished {job.id} 2" for job in lost
    }
    assert set(lines.values()) == {1}
    assert with_store(url, ends) == dict.fromkeys(submitted, 1)


@pytest.fixture
def connect(url: str) -> Connect:
    return lambda: database(url)


def test_two_requests_with_one_key_are_one_job(connect: Connect) -> None:
    """Of many processes that submit with the same key at once one inserts the job, and all are told of that one."""

    async def scenario() -> None:
        places = [connect() for _ in range(4)]
        await asyncio.gather(*(place.open() for place in places))
        stores = [JobStore(place, "d") for place in places]
        told = await asyncio.gather(
            *(store.insert(pending_job(now=time.time()), limit=99, key=KEY, ttl=DAY) for store in stores * 5)
        )
        accepted = [job for job in told if isinstance(job, Job)]
        assert len(accepted) == 1
        assert {replay.run_id for replay in told if not isinstance(replay, Job)} == {accepted[0].id}
        assert (await stores[0].page(None, 9, None)).total == 1
        await asyncio.gather(*(place.close() for place in places))

    asyncio.run(scenario())
