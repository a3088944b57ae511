"""The queue on PgQueuer, over a real server: what is in its table, what it survives, and what it refuses."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from asgipipe import Deployment, pipeline
from asgipipe.errors import DefinitionError, StorageFullError, StoreError, UnavailableError
from asgipipe.jobs.queue import load_queue
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Transaction
from asgipipe.stores.registry import database
from asgipipe.testing.queues import SOON, Stage, end_of, found, lateness, submit, until, working
from tests.jobs.submitting import submitted
from tests.postgresql import PostgreSQLServer, running
from tests.running import started

pytest.importorskip("pgqueuer")
pytest.importorskip("psycopg")

from pgqueuer import Queries
from pgqueuer.types import QueueManagerId

from asgipipe.jobs.postgres import deliveries
from asgipipe.jobs.postgres.link import Driver, Link
from asgipipe.jobs.postgres.repository import Repository
from asgipipe.stores.postgresql import Limits

PATIENCE = 30.0
HASTY = Path(__file__).with_name("hasty.py")
QUICK = {"lease": 0.5, "look": 0.5, "sweep": 0.5}

Row = tuple[object, ...]


class Table:
    """PgQueuer's table in the store at `url`."""

    def __init__(self, url: str) -> None:
        self.settings = {"store_url": url, "job_queue": "postgres", "job_queue_kwargs": QUICK}
        self._url = url

    def execute(self, sql: str) -> list[Row]:
        import psycopg

        with psycopg.connect(self._url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def rows(self) -> list[Row]:
        """Return status and label of each delivery."""
        return self.execute("SELECT status::text, dedupe_key FROM asgipipe_pgqueuer ORDER BY id")


@pytest.fixture
def table(postgresql_url: str) -> Table:
    return Table(postgresql_url)


# The rows


def test_a_job_has_a_delivery_as_long_as_it_is_not_settled(table: Table) -> None:
    """One row is added with each pending job, names it, is picked when it runs, and is gone when it has ended."""

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings, run_jobs=False) as replica:
            job_id = await submit(replica, wait=True, priority=10**12)
            assert table.rows() == [("queued", f"{job_id} 0")]
            async with working(stage, table.settings) as deployment:
                await until(lambda: stage.running)
                assert table.rows() == [("picked", f"{job_id} 0")]
                stage.open()
                await end_of(deployment, job_id)
                await until(lambda: not table.rows())

    asyncio.run(main())


def test_a_job_and_its_delivery_are_one_transaction(table: Table) -> None:
    """A job that cannot have a delivery is not accepted, and leaves nothing behind."""

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings, run_jobs=False) as replica:
            await submit(replica)
            table.execute("ALTER TABLE asgipipe_pgqueuer RENAME TO hidden")
            with pytest.raises(Exception, match=r"asgipipe_pgqueuer|cannot be|store"):
                await submit(replica)
            table.execute("ALTER TABLE hidden RENAME TO asgipipe_pgqueuer")
            assert table.execute("SELECT count(*) FROM jobs") == [(1,)]

    asyncio.run(main())


def test_a_delivery_that_is_repeated(table: Table) -> None:
    """A row whose job runs elsewhere, or has ended, is settled without the job being run again."""
    stale = "UPDATE asgipipe_pgqueuer SET heartbeat = now() - interval '1 hour'"
    again = (
        "INSERT INTO asgipipe_pgqueuer (status, entrypoint, payload, priority)"
        " SELECT 'queued', deployment, convert_to(id || ' 0', 'UTF8'), 0 FROM jobs"
    )

    async def main() -> None:
        one, other = Stage(), Stage()
        async with working(one, table.settings) as first:
            job_id = await submit(first, "x", wait=True)
            await until(lambda: one.running)
            async with working(other, table.settings):
                await until(lambda: table.execute(stale) or not table.rows())
                assert (await found(first, job_id)).state is JobState.RUNNING
                one.open()
                assert (await end_of(first, job_id)).attempt == 1
                table.execute(again)
                await until(lambda: not table.rows())
        assert (one.begun, other.begun) == (["x"], [])

    asyncio.run(main())


def test_a_claim_of_unknown_outcome(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was claimed without its worker being told so is run there, though its row went to another worker."""
    original: Callable[..., Awaitable[object]] = JobStore.claim_one
    claims: list[str] = []

    async def claim_one(self: JobStore, owner: int, job_id: str) -> object:
        result = await original(self, owner, job_id)
        claims.append(job_id)
        if len(claims) == 1:
            table.execute("UPDATE asgipipe_pgqueuer SET heartbeat = now() - interval '1 hour'")
            raise UnavailableError("the connection was lost")
        return result

    monkeypatch.setattr(JobStore, "claim_one", claim_one)

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings) as first, working(stage, table.settings):
            assert (await end_of(first, await submit(first))).attempt == 1
        assert len(stage.begun) == 1

    asyncio.run(main())


def test_answers_to_commits_are_lost(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose claim was committed without an answer, and so is done again, is run by the worker that has it."""
    import psycopg

    from asgipipe.stores.postgresql.connection import Connection

    original = Connection.commit
    commits = itertools.count(1)

    def commit(connection: Connection) -> None:
        changed = connection._changed
        original(connection)
        if changed and next(commits) % 3 == 0:
            raise psycopg.OperationalError("the answer was lost")

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings) as deployment:
            monkeypatch.setattr(Connection, "commit", commit)
            jobs = [await submit(deployment, str(number)) for number in range(12)]
            assert {(await end_of(deployment, job_id)).attempt for job_id in jobs} == {1}
            monkeypatch.undo()
        assert sorted(stage.begun, key=int) == [str(number) for number in range(12)]

    asyncio.run(main())


def test_a_row_of_a_worker_that_has_died(table: Table) -> None:
    """What was picked by somebody who gives no sign of life is delivered to another one after the lease."""

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings, run_jobs=False) as replica:
            job_id = await submit(replica)
            table.execute("UPDATE asgipipe_pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid()")
            async with working(stage, table.settings):
                begun = time.monotonic()
                await end_of(replica, job_id)
                assert time.monotonic() - begun < QUICK["lease"] + 5

    asyncio.run(main())


def test_a_row_that_is_lost(table: Table) -> None:
    """A pending job without a row gets a new one, whoever has removed it."""

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings, run_jobs=False) as replica, working(stage, table.settings):
            job_id = await submit(replica, delay=0.2)
            table.execute("DELETE FROM asgipipe_pgqueuer")
            assert (await end_of(replica, job_id)).state is JobState.COMPLETED

    asyncio.run(main())


def test_a_row_that_was_picked_where_there_is_no_room(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is delivered to a worker that has room, however long the jobs go on that came in between."""
    original: Callable[..., Awaitable[object]] = Repository.dequeue
    first, other = Stage(), Stage()

    async def main() -> None:
        async with working(first, table.settings, job_concurrency=1) as full:

            async def dequeue(self: Repository, **options: object) -> object:
                rows = await original(self, **options)
                if rows and not first.begun:  # as a claim of unknown outcome does, and the run of a lost connection
                    await claimed_past_the_queue(full, intruder)
                return rows

            monkeypatch.setattr(Repository, "dequeue", dequeue)
            intruder = await submit(full, "intruder", wait=True, delay=0.3, priority=-1)
            job_id = await submit(full, "x")
            await until(lambda: first.begun)
            async with working(other, table.settings):
                assert (await end_of(full, job_id)).state is JobState.COMPLETED
            assert (first.begun, other.begun) == (["intruder"], ["x"])
            first.open()

    asyncio.run(main())


async def claimed_past_the_queue(deployment: Deployment, job_id: str) -> None:
    there = deployment.service.jobs._open
    assert there is not None
    assert there.worker is not None
    async with asyncio.timeout(PATIENCE):
        while await there.store.claim_one(there.worker.owner, job_id) is None:  # noqa: ASYNC110  # it is not due yet
            await asyncio.sleep(0.01)
    await there.worker.adopt()


def test_a_row_that_is_picked_again_while_its_handler_ends(postgresql_url: str) -> None:
    """PgQueuer passes it by, so it takes up no room for ever."""
    rows = [SimpleNamespace(id=1), SimpleNamespace(id=2)]

    async def main() -> set[int]:
        link = await Link.to(postgresql_url, Limits())
        picked: set[int] = set()
        try:
            repository = Repository(Driver(link), picked, room)
            repository.dispatched = {1}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Queries, "dequeue", dequeue)
                await repository.dequeue(10, {}, QueueManagerId(uuid4()), None, timedelta(seconds=1))
        finally:
            await link.close()
        return picked

    async def room() -> int:
        return 10

    async def dequeue(self: object, *_: object) -> object:
        return rows

    assert asyncio.run(main()) == {2}


def test_a_sweep_that_nobody_foresaw(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a look for lost rows comes upon, the next one finds them."""
    original, fails = deliveries.any_lost, [1]

    def any_lost(transaction: Transaction, deployment: str, now: float) -> bool:
        if fails:
            fails.pop()
            raise RuntimeError("no such table")
        return original(transaction, deployment, now)

    monkeypatch.setattr(deliveries, "any_lost", any_lost)

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings, run_jobs=False) as replica, working(stage, table.settings):
            job_id = await submit(replica, delay=0.2)
            table.execute("DELETE FROM asgipipe_pgqueuer")
            assert (await end_of(replica, job_id)).state is JobState.COMPLETED

    asyncio.run(main())
    assert caplog.text.count("lost deliveries cannot be looked for") == 1


def test_what_pgqueuer_notes_down_is_forgotten(table: Table) -> None:
    """Its log does not grow with the number of jobs."""

    async def main() -> None:
        stage = Stage()
        async with working(stage, table.settings) as deployment:
            for _ in range(5):
                await end_of(deployment, await submit(deployment))
            await until(lambda: table.execute("SELECT count(*) FROM asgipipe_pgqueuer_log") == [(0,)])
            assert table.execute("SELECT count(*) FROM asgipipe_pgqueuer_statistics") == [(0,)]

    asyncio.run(main())


def test_an_idle_worker_is_told_soon(table: Table) -> None:
    """A job that another process submits begins within 100 ms, though nobody looks at the table all the time."""

    async def main() -> list[float]:
        stage, waits = Stage(), []
        settings = {**table.settings, "job_queue_kwargs": {}}
        async with working(stage, settings, run_jobs=False) as replica, working(stage, settings):
            await end_of(replica, await submit(replica))
            for _ in range(5):
                await asyncio.sleep(0.1)
                job = await end_of(replica, await submit(replica))
                assert job.started_at is not None
                waits.append(job.started_at - job.created_at)
        return waits

    assert sorted(asyncio.run(main()))[1] < 0.1


# Its tables


def test_its_tables_are_made_once(postgresql_url: str) -> None:
    """Processes that start at the same time make them together, without an error; the next one finds them made."""

    async def opened() -> None:
        place = database(postgresql_url)
        await place.open()
        try:
            await load_queue("postgres", postgresql_url, {}).open(place)
        finally:
            await place.close()

    async def main() -> None:
        await asyncio.gather(*(opened() for _ in range(4)))
        await opened()

    asyncio.run(main())
    found = Table(postgresql_url).execute(
        "SELECT tablename FROM pg_tables WHERE tablename LIKE '%pgqueuer%' ORDER BY 1"
    )
    names = ("asgipipe_pgqueuer", *(f"asgipipe_pgqueuer_{name}" for name in ("log", "schedules", "statistics")))
    assert found == [(name,) for name in names]


def test_a_role_that_may_make_no_tables(postgresql: PostgreSQLServer, postgresql_url: str) -> None:
    """It is said what the queue lacks, and where; a server that cannot be reached is tried again."""

    async def opened(url: str) -> None:
        place = database(postgresql_url)
        await place.open()
        try:
            queue = load_queue("postgres", url, {})
            place._server.url = url  # type: ignore[attr-defined]  # the tables of the store are there already
            await queue.open(place)
        finally:
            await place.close()

    postgresql.execute("DROP ROLE IF EXISTS reader")
    postgresql.execute("CREATE ROLE reader LOGIN")
    with pytest.raises(StoreError, match=r"the job queue cannot have its tables in .*permission denied"):
        asyncio.run(opened(postgresql_url.replace("postgres@", "reader@")))
    with pytest.raises(UnavailableError, match="The job queue cannot be reached"):
        asyncio.run(opened(postgresql_url.replace("?host=", "?host=/nowhere")))


def test_it_leaves_the_process_alone() -> None:
    """Its import installs no signal handler, event loop or log handler, and takes no name from the environment."""
    program = """
import asyncio, logging, signal
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
from asgipipe.jobs.postgres.deliveries import SETTINGS
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
assert logging.getLogger().handlers == []
assert type(asyncio.get_event_loop_policy()).__module__ == "asyncio.unix_events"
print(*sorted(value for value in SETTINGS.model_dump().values() if isinstance(value, str)))
"""
    names = ("CHANNEL", "QUEUE_TABLE", "FUNCTION", "PGQUEUER_PREFIX", "PGQUEUER_SCHEMA", "PGQUEUER_QUEUE_TABLE_LOG")
    environment = {**os.environ, **dict.fromkeys(names, "hosts"), "DURABILITY": "volatile"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if not name.startswith("asgipipe_")] == []


# What is refused when a deployment is built


@pytest.mark.parametrize("url", [None, "memory:", "some/store.db"])
def test_a_store_that_is_not_in_postgresql(url: str | None) -> None:
    """The queue is refused at once, and the way out is named."""
    with pytest.raises(DefinitionError, match=r"job_queue 'postgres' .* set store_url to postgresql://"):
        Deployment(Stage().pipeline, {"store_url": url, "job_queue": "postgres"}, layers=())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lease": 0.1}, "lease is in seconds, and at least 0.5"), ({"leese": 3}, "takes no option 'leese'")],
)
def test_options_that_there_are_not(options: dict[str, object], message: str) -> None:
    """An option that is misspelt, or cannot be right, is refused at once."""
    with pytest.raises(DefinitionError, match=message):
        load_queue(None, "postgresql://x/y", options)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lacks it is told the command that installs it."""
    for name in list(sys.modules):
        if name.startswith("asgipipe.jobs.postgres"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pgqueuer", None)
    with pytest.raises(DefinitionError, match=r'pip install "asgipipe\[postgres\]"'):
        load_queue("postgres", "postgresql://x/y", {})


# What it survives

AGENT = """
import asyncio, os
from asgipipe import pipeline

@pipeline
async def agent(number: int = 0, seconds: float = 0.0) -> int:
    with open("notes", "a") as notes:
        notes.write(f"{os.getpid()} {number}\\n")
    await asyncio.sleep(seconds)
    return number
"""


@contextmanager
def worker(folder: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an `asgipipe worker`, and wait until it says that it does."""
    (folder / "agent.py").write_text(AGENT)
    options = ["--store-url", url, "--job-queue-kwargs", '{"lease": 1.0}', "--drain-timeout", "0.2"]
    with tempfile.TemporaryFile(dir=folder) as log:
        command = [sys.executable, HASTY, "worker", "agent.py", *options]
        with subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while b"runs jobs" not in os.pread(log.fileno(), 10_000, 0):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                yield process
            finally:
                process.kill()


@pipeline
def agent(number: int = 0, seconds: float = 0.0) -> int:
    raise AssertionError("this process runs no jobs")


def notes(folder: Path) -> list[list[str]]:
    file = folder / "notes"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_a_worker_is_killed(tmp_path: Path, postgresql_url: str) -> None:
    """After kill -9 of a worker another one has all of its jobs, and hands them back when it is told to stop."""

    async def main() -> None:
        settings = {"store_url": postgresql_url, "run_jobs": False}
        async with started(agent, settings) as replica:
            with worker(tmp_path, postgresql_url) as victim:
                for number in range(5):
                    await submitted(replica, {"number": number, "seconds": 3600.0})
                await until(lambda: len(notes(tmp_path)) == 5)
                with worker(tmp_path, postgresql_url) as survivor:
                    victim.kill()
                    await until(lambda: len(notes(tmp_path)) == 10)
                    pids = [pid for pid, _ in notes(tmp_path)]
                    assert pids == [str(victim.pid)] * 5 + [str(survivor.pid)] * 5
                    survivor.terminate()
                    assert await asyncio.to_thread(survivor.wait, PATIENCE) == 0
            counts = await replica.service.jobs.counts()
            assert (counts[JobState.PENDING], counts[JobState.RUNNING]) == (5, 0)

    asyncio.run(main())


async def accepted(deployment: Deployment, label: str) -> str | None:
    try:
        return await submit(deployment, label)
    except (UnavailableError, StorageFullError):
        return None


async def disturbed(url: str, disturb: Callable[[], None]) -> None:
    """Submit jobs while PostgreSQL is disturbed, and see to it that each of those that were accepted has one end."""
    stage = Stage()
    stage.open()
    settings = {"store_url": url, "job_queue": "postgres", "job_queue_kwargs": {"lease": 1.0, "sweep": 2.0}}
    async with working(stage, settings, job_max_attempts=20) as first, working(stage, settings, job_max_attempts=20):
        disturbance = asyncio.create_task(asyncio.to_thread(disturb))
        load = []
        while not disturbance.done():
            load.append(asyncio.create_task(accepted(first, str(len(load)))))
            await asyncio.sleep(0.03)
        await disturbance
        jobs = [*await asyncio.gather(*load), await submit(first)]
        ends = [await end_of(first, job_id) for job_id in jobs if job_id is not None]
        assert len(ends) > 10
        assert {job.state for job in ends} == {JobState.COMPLETED}
        assert lateness(await end_of(first, await submit(first))) < SOON


def test_the_server_restarts_under_load(caplog: pytest.LogCaptureFixture) -> None:
    """Every job that was accepted ends once, though the server was stopped and crashed; the log says so once each."""
    with running() as server:

        def restart() -> None:
            for how in (signal.SIGINT, signal.SIGQUIT):
                time.sleep(0.3)
                server.stop(how)
                server.start()

        asyncio.run(disturbed(server.url(), restart))
    assert 1 <= caplog.text.count("the job queue has lost PostgreSQL") <= 4  # two queues, two restarts
    assert "never retrieved" not in caplog.text


def test_the_server_freezes_under_load() -> None:
    """Nothing is lost while the server is stopped for longer than an answer is waited for."""
    with running() as server:

        def freeze() -> None:
            time.sleep(0.3)
            server.freeze()
            time.sleep(6.0)
            server.thaw()

        asyncio.run(disturbed(server.url(), freeze))
