"""What PostgreSQL does to its clients, done by a real server: restarts, crashes, standstills, lost sessions."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.stores.database import Database, Operation, Transaction
from tests.postgresql import PostgreSQLServer, running

pytest.importorskip("psycopg", reason="the postgres extra is not installed")

from asgipipe.stores.postgresql import Limits, PostgreSQLDatabase

QUICK = Limits(connecting=2, silence=1.0, statement=0.8, lock=0.4, idle=1.0, operation=2.0)
BOUND = QUICK.silence + QUICK.operation + 2 * QUICK.connecting + 1.0
"""Seconds that no call may take longer than: a standstill, patience, and the connections tried at both ends of it."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with running() as server:
        yield server


@pytest.fixture
def url(server: PostgreSQLServer) -> Iterator[str]:
    with server.database() as url:
        server.execute("CREATE TABLE counter (n BIGINT)", database_of(url))
        server.execute("INSERT INTO counter VALUES (0)", database_of(url))
        yield url


@contextlib.asynccontextmanager
async def opened(url: str, limits: Limits = QUICK) -> AsyncIterator[PostgreSQLDatabase]:
    database = PostgreSQLDatabase(url, limits=limits)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def count(number: int) -> Operation[None]:
    """Return an operation that counts each number once, however often it is done."""

    def operation(transaction: Transaction) -> None:
        sql = "INSERT INTO events (job_id, id, type, at, data) VALUES ('a', ?, 'log', 0, ?) ON CONFLICT DO NOTHING"
        if transaction.change(sql, number, b"{}"):
            transaction.change("UPDATE counter SET n = n + 1")

    return operation


def counted(transaction: Transaction) -> tuple[set[object], object]:
    numbers = {number for (number,) in transaction.rows("SELECT id FROM events")}
    ((count,),) = transaction.rows("SELECT n FROM counter")
    return numbers, count


class Load:
    """Writes and reads until it is stopped; `done` holds what was acknowledged."""

    def __init__(self, database: Database, width: int = 8) -> None:
        self.done: set[object] = set()
        self.refused = 0
        self.longest = 0.0
        self._database = database
        self._numbers = iter(range(10**9))
        self._news = asyncio.Event()
        self._stopped = False
        self._tasks = [asyncio.create_task(self._work()) for _ in range(width)]

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def acknowledged(self, more: int = 1) -> None:
        """Wait until more operations have been acknowledged."""
        wanted = len(self.done) + more
        async with asyncio.timeout(20):
            while len(self.done) < wanted:
                self._news.clear()
                await self._news.wait()

    async def _work(self) -> None:
        while not self._stopped:
            number = next(self._numbers)
            began = time.monotonic()
            try:
                await self._database.write(count(number))
                self.done.add(number)
                self._news.set()
                await self._database.read(counted) if number % 10 == 0 else None
            except UnavailableError:
                self.refused += 1
            self.longest = max(self.longest, time.monotonic() - began)


def test_restarts_and_crashes_lose_nothing(server: PostgreSQLServer, url: str) -> None:
    """A server that is restarted under load, and one that crashes, refuses, loses and doubles nothing."""

    async def scenario() -> None:
        async with opened(url, Limits(operation=20)) as database:
            load = Load(database)
            for how in (signal.SIGINT, signal.SIGQUIT):
                await load.acknowledged(50)
                await asyncio.to_thread(server.stop, how)
                server.start()
            await load.acknowledged(50)
            await load.stop()
            numbers, n = await database.read(counted)
            assert load.refused == 0
            assert load.done == numbers
            assert n == len(numbers)

    asyncio.run(scenario())


def test_a_standstill_is_bounded(server: PostgreSQLServer, url: str) -> None:
    """While all of the server's processes are frozen, calls are answered in time; after that, everything goes on."""
    changes = threading.Event()

    async def scenario() -> None:
        async with opened(url) as database, opened(url) as other:
            other.watch(changes.set)
            load = Load(database)
            await load.acknowledged(50)
            server.freeze()
            try:
                await asyncio.sleep(BOUND - 2.0)
                refused = load.refused
            finally:
                server.thaw()
            await load.acknowledged(50)
            changes.clear()
            await load.acknowledged(1)
            assert await asyncio.to_thread(changes.wait, 5)
            await load.stop()
            numbers, n = await database.read(counted)
            assert refused > 0
            assert load.longest < BOUND
            assert load.done <= numbers  # a commit whose outcome nobody knew may have happened
            assert n == len(numbers)

    asyncio.run(scenario())


def test_ended_sessions_are_replaced(server: PostgreSQLServer, url: str) -> None:
    """When somebody ends all sessions, writes, reads, watches and workers go on without an error."""
    changes = threading.Event()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"

    async def scenario() -> None:
        async with opened(url) as database, opened(url) as other:
            worker = await database.register()
            other.watch(changes.set)
            for number in range(3):
                await database.write(count(number))
                server.execute(f"{end} AND pid <> pg_backend_pid()", database_of(url))
                await database.write(count(number))
            assert await other.read(counted) == ({0, 1, 2}, 3)
            await asyncio.sleep(0.5)
            changes.clear()
            await database.write(count(3))
            assert await asyncio.to_thread(changes.wait, 5)
            assert await other.dead([worker]) == set()

    asyncio.run(scenario())


def test_a_frozen_session_is_replaced_and_ended(server: PostgreSQLServer, url: str) -> None:
    """An operation whose session freezes is done in another one, and the frozen one is ended when it thaws."""
    frozen: list[psutil.Process] = []

    def freezing(transaction: Transaction) -> None:
        if not frozen:
            row = transaction.row("SELECT pg_backend_pid()")
            assert row is not None
            transaction.change("UPDATE counter SET n = 100")
            frozen.append(psutil.Process(row[0]))  # type: ignore[arg-type]
            frozen[0].suspend()
        transaction.rows("SELECT 1")

    async def scenario() -> None:
        async with opened(url) as database:
            try:
                await database.write(freezing)
                ended = await database.read(lambda transaction: transaction.rows("SELECT n FROM counter"))
            finally:
                frozen[0].resume()
            assert ended == [(0,)]
            frozen[0].wait(5) if frozen[0].is_running() else None
            await database.write(count(1))
            assert await database.read(counted) == ({1}, 1)

    asyncio.run(scenario())


def test_a_lock_held_elsewhere_is_waited_for_in_bounds(url: str) -> None:
    """Who needs a locked row is refused after a while; those beside it in the commit are done."""
    release = threading.Event()

    def holding(transaction: Transaction) -> None:
        transaction.change("UPDATE counter SET n = 5")
        release.wait(20)

    async def scenario() -> None:
        patient = Limits(idle=20)
        async with opened(url) as database, opened(url, patient) as other:
            held = other.enqueue(holding)
            await asyncio.sleep(0.1)
            blocked, free = (
                database.enqueue(count(1)),
                database.enqueue(lambda transaction: transaction.row("SELECT 7")),
            )
            assert await asyncio.wait_for(asyncio.wrap_future(free), BOUND) == (7,)
            with pytest.raises(UnavailableError, match="busy"):
                await asyncio.wait_for(asyncio.wrap_future(blocked), BOUND)
            release.set()
            await asyncio.wrap_future(held)
            await database.write(count(1))
            assert await database.read(counted) == ({1}, 6)

    asyncio.run(scenario())


def test_deadlocks_are_dissolved(server: PostgreSQLServer, url: str) -> None:
    """Two operations that wait for each other are both done."""
    server.execute("INSERT INTO counter VALUES (1000)", database_of(url))
    barrier = threading.Barrier(2)

    def crossing(first: str, second: str) -> Operation[None]:
        def operation(transaction: Transaction) -> None:
            transaction.change(f"UPDATE counter SET n = n + 1 WHERE n {first} 500")  # noqa: S608  # ours
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(1)
            transaction.change(f"UPDATE counter SET n = n + 1 WHERE n {second} 500")  # noqa: S608  # ours

        return operation

    async def scenario() -> None:
        quick = f"{url}&options=-cdeadlock_timeout%3D100ms"
        patient = Limits(lock=4.0)
        async with opened(quick, patient) as database, opened(quick, patient) as other:
            await asyncio.gather(database.write(crossing("<", ">")), other.write(crossing(">", "<")))
            assert await database.read(lambda t: t.rows("SELECT n FROM counter ORDER BY n")) == [(2,), (1002,)]

    asyncio.run(scenario())


def test_a_slow_query_is_ended(url: str) -> None:
    """A read that takes too long is refused, and the next one is answered."""

    async def scenario() -> None:
        async with opened(url) as database:
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(
                    database.read(lambda transaction: transaction.rows("SELECT pg_sleep(60)")), BOUND
                )
            assert await database.read(counted) == (set(), 0)

    asyncio.run(scenario())


def test_a_full_disk_is_told(url: str) -> None:
    """What the server has no room for raises StorageFullError; what is beside it in the commit is done."""

    def filling(transaction: Transaction) -> None:
        transaction.change("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$")

    async def scenario() -> None:
        async with opened(url) as database:
            full, done = database.enqueue(filling), database.enqueue(count(1))
            with pytest.raises(StorageFullError):
                await asyncio.wrap_future(full)
            await asyncio.wrap_future(done)
            assert await database.read(counted) == ({1}, 1)

    asyncio.run(scenario())


def database_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]
