"""What a `Database` has to prove: one class of pytest tests, to be subclassed for each implementation.

class TestMine(DatabaseConformance):
@pytest.fixture
def connect(self, tmp_path):
return lambda: MyDatabase(tmp_path / "store")
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

from asgipipe.errors import ConflictError, UnavailableError
from asgipipe.stores.database import Database, Operation, Transaction, Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 20.0
"""Seconds until something that normally takes a fraction of one is given up."""

T = TypeVar("T")

Connect = Callable[[], Database]

_TABLES = (
    "workers",
    "jobs",
    "events",
    "step_results",
    "idempotency_keys",
    "runs",
    "run_bundles",
    "run_steps",
    "artifacts",
    "run_logs",
)


class DatabaseConformance:
    """Subclass it with a fixture `connect`: every call returns another database, not opened, at the same, empty place.

    `shared` is False for one whose place no other database can reach, and which is gone when it is closed.
    """

    shared: ClassVar[bool] = True

    @pytest.fixture
    def connect(self) -> Connect:
        raise NotImplementedError("a subclass says what is tested")

    @pytest.fixture
    def another(self, connect: Connect) -> Connect:
        """Return what makes a second database at the place of the first."""
        if not self.shared:
            pytest.skip("no other database can reach its place")
        return connect

    # Opening and closing

    def test_making_one_opens_nothing(self, connect: Connect) -> None:
        """A database that was made but not opened has no thread, and nothing exists because of it."""
        threads = threading.active_count()
        database = connect()
        assert isinstance(database.place, str)
        assert database.place
        assert threading.active_count() == threads
        assert asyncio.run(_refused(database))

    def test_opening_makes_every_table(self, connect: Connect) -> None:
        """A fresh database has all tables, and exists."""

        async def scenario() -> None:
            async with opened(connect) as database:
                assert database.exists()
                for table in _TABLES:
                    assert await database.read(_query(f"SELECT * FROM {table}")) == []  # noqa: S608  # ours

        asyncio.run(scenario())

    def test_opening_and_closing_twice_is_harmless(self, connect: Connect) -> None:
        """A second `open` keeps what is there, and a second `close` does nothing."""

        async def scenario() -> None:
            database = connect()
            await database.open()
            await database.write(_insert("a", 1))
            await database.open()
            assert await _count(database) == 1
            await database.close()
            await database.close()
            assert await _refused(database)

        asyncio.run(scenario())

    def test_it_may_be_opened_again(self, another: Connect) -> None:
        """What was written is there after a close and a new `open`, on another event loop, too."""
        database = another()

        async def first() -> None:
            await database.open()
            await database.write(_insert("a", 1))
            await database.close()

        async def second() -> int:
            await database.open()
            try:
                return await _count(database)
            finally:
                await database.close()

        asyncio.run(first())
        assert asyncio.run(second()) == 1

    def test_many_open_it_at_once(self, another: Connect) -> None:
        """Databases that find no table, all at once, make each of them once."""

        async def scenario() -> None:
            databases = [another() for _ in range(4)]
            await asyncio.gather(*(database.open() for database in databases))
            try:
                await asyncio.gather(*(database.write(_insert("a", n)) for n, database in enumerate(databases)))
                assert await _count(databases[0]) == 4
            finally:
                await asyncio.gather(*(database.close() for database in databases))

        asyncio.run(scenario())

    def test_closing_commits_what_is_queued(self, another: Connect) -> None:
        """Operations queued before `close`, urgent or not, are done and durable after it."""

        async def scenario() -> None:
            async with opened(another) as other:
                database = another()
                await database.open()
                futures = [database.enqueue(_insert("a", n), urgent=n % 2 == 0) for n in range(50)]
                await database.close()
                assert [future.result(0) for future in futures] == [1] * 50
                assert await _count(other) == 50

        asyncio.run(scenario())

    def test_nothing_is_left_behind(self, connect: Connect) -> None:
        """After a close, no thread that it started is left."""
        before = set(threading.enumerate())

        async def scenario() -> None:
            async with opened(connect) as database:
                database.watch(lambda: None)
                await database.register()
                await _count(database)

        asyncio.run(scenario())
        assert not [thread for thread in threading.enumerate() if thread not in before and "asyncio" not in thread.name]

    # Operations

    def test_a_result_is_what_the_operation_returned(self, connect: Connect) -> None:
        """`write`, `read` and `enqueue` give the operation's result."""

        async def scenario() -> None:
            async with opened(connect) as database:
                assert await database.write(lambda _: "written") == "written"
                assert await database.read(lambda _: "read") == "read"
                assert await _result(database.enqueue(lambda _: "queued")) == "queued"
                assert await _result(database.enqueue(lambda _: "unhurried", urgent=False)) == "unhurried"

        asyncio.run(scenario())

    def test_operations_are_done_in_their_order(self, connect: Connect) -> None:
        """What was queued first is done first, whether it is urgent or not."""

        async def scenario() -> None:
            done: dict[int, None] = {}  # in the order of first insertion; one may be done again
            async with opened(connect) as database:
                futures = [
                    database.enqueue(lambda _, n=n: done.setdefault(n), urgent=n % 7 == 0)  # type: ignore[misc]
                    for n in range(500)
                ]
                await asyncio.gather(*map(_result, futures))
            assert list(done) == list(range(500))

        asyncio.run(scenario())

    def test_a_read_sees_what_was_acknowledged(self, connect: Connect) -> None:
        """A read that begins after a write has returned sees it, every time."""

        async def scenario() -> None:
            async with opened(connect) as database:
                for number in range(1, 30):
                    await database.write(_insert("a", number))
                    assert await _count(database) == number

        asyncio.run(scenario())

    def test_any_thread_may_queue(self, connect: Connect) -> None:
        """Threads without an event loop queue operations and wait for them."""

        async def scenario() -> None:
            async with opened(connect) as database:

                def work(number: int) -> int:
                    return database.enqueue(_insert("a", number)).result(PATIENCE)

                assert await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(8))) == [1] * 8
                assert await _count(database) == 8

        asyncio.run(scenario())

    def test_the_loop_goes_on_meanwhile(self, connect: Connect) -> None:
        """An operation that takes long keeps neither the event loop nor the call that queues it."""

        async def scenario() -> None:
            release = threading.Event()
            async with opened(connect) as database:
                future = database.enqueue(lambda _: release.wait(PATIENCE))
                await asyncio.sleep(0.01)
                assert not future.done()
                release.set()
                assert await _result(future)

        asyncio.run(scenario())

    def test_a_cancelled_caller_leaves_no_trace(self, connect: Connect) -> None:
        """Others get their results although a coroutine that waited was cancelled."""

        async def scenario() -> None:
            async with opened(connect) as database:
                task = asyncio.create_task(database.write(_insert("a", 1)))
                await asyncio.sleep(0)
                task.cancel()
                assert await database.write(_insert("a", 2)) == 1
                assert task.cancelled() or task.done()

        asyncio.run(scenario())

    # What goes wrong

    def test_a_refusal_is_the_callers_alone(self, connect: Connect) -> None:
        """An operation that raises an error of ours gets it; those beside it are done."""

        async def scenario() -> None:
            async with opened(connect) as database:
                with _held(database):
                    first = database.enqueue(_insert("a", 1))
                    refused = database.enqueue(_refuse)
                    second = database.enqueue(_insert("a", 2))
                assert [await _result(first), await _result(second)] == [1, 1]
                with pytest.raises(ConflictError, match="not now"):
                    await _result(refused)
                assert await _count(database) == 2

        asyncio.run(scenario())

    @pytest.mark.parametrize("fault", ["ours", "the database's"])
    def test_an_operation_that_breaks_is_undone_alone(self, connect: Connect, fault: str) -> None:
        """What an operation changed before it raised is undone; those beside it in the commit are done."""

        def broken(transaction: Transaction) -> None:
            _insert("a", 10)(transaction)
            if fault == "ours":
                raise ZeroDivisionError("a mistake")
            transaction.change("INSERT INTO events (job_id, id) VALUES (?, ?)", "a", 10)

        async def scenario() -> None:
            async with opened(connect) as database:
                with _held(database):
                    first = database.enqueue(_insert("a", 1))
                    failed = database.enqueue(broken)
                    second = database.enqueue(_insert("a", 2))
                assert [await _result(first), await _result(second)] == [1, 1]
                with pytest.raises(ZeroDivisionError if fault == "ours" else Exception):  # the driver's
                    await _result(failed)
                assert await database.read(_query("SELECT id FROM events ORDER BY id")) == [(1,), (2,)]

        asyncio.run(scenario())

    def test_a_read_that_breaks_harms_no_other(self, connect: Connect) -> None:
        """A query that the database refuses raises, and the next one is answered."""

        async def scenario() -> None:
            async with opened(connect) as database:
                with pytest.raises(Exception):  # noqa: B017, PT011  # the driver's own
                    await database.read(_query("SELECT nothing FROM nowhere"))
                assert await _count(database) == 0

        asyncio.run(scenario())

    # SQL

    def test_values_come_back_unchanged(self, connect: Connect) -> None:
        """Texts, bytes, numbers and None come back as they went in, extremes included."""
        rows: list[tuple[Value, ...]] = [
            ("ä€𝄞\n", 2**63 - 1, "", None, 1795231651.7256863, b""),
            ("?%s{}'\"", -(2**63), "t", "step", 0.1, bytes(range(256))),
        ]

        async def scenario() -> None:
            async with opened(connect) as database:
                columns = "job_id, id, type, step_name, at, data"
                insert = f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608  # ours
                await database.write(lambda transaction: transaction.change_many(insert, rows))
                found = await database.read(_query(f"SELECT {columns} FROM events ORDER BY id DESC"))  # noqa: S608  # ours
                assert found == rows
                assert all(type(value) is type(given) for value, given in zip(found[1], rows[1], strict=True))

        asyncio.run(scenario())

    def test_changes_are_counted_and_returned(self, connect: Connect) -> None:
        """`change` says how many rows it changed, RETURNING gives them, ON CONFLICT leaves what is there."""

        def work(transaction: Transaction) -> list[object]:
            transaction.change_many(
                "INSERT INTO events (job_id, id, type, at, data) VALUES (?, ?, ?, ?, ?)",
                [("a", number, "log", 0.0, b"") for number in range(5)],
            )
            return [
                transaction.change("UPDATE events SET type = ? WHERE id < ?", "progress", 3),
                transaction.change("DELETE FROM events WHERE id = ?", 99),
                transaction.rows("UPDATE events SET at = 1.5 WHERE id = ? RETURNING id, at", 4),
                transaction.change(
                    "INSERT INTO events (job_id, id, type, at, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    *("a", 1, "log", 0.0, b""),
                ),
                transaction.row("SELECT type FROM events WHERE id = ?", 1),
                transaction.row("SELECT type FROM events WHERE id = ?", 99),
            ]

        async def scenario() -> None:
            async with opened(connect) as database:
                assert await database.write(work) == [3, 0, [(4, 1.5)], 0, ("progress",), None]

        asyncio.run(scenario())

    # Others at the same place

    def test_others_see_nothing_before_the_commit(self, another: Connect) -> None:
        """While an operation goes on, reads elsewhere and beside it see what was there before it."""
        written, release = threading.Event(), threading.Event()

        def work(transaction: Transaction) -> None:
            _insert("a", 1)(transaction)
            written.set()
            release.wait(PATIENCE)

        async def scenario() -> None:
            async with opened(another) as database, opened(another) as other:
                future = database.enqueue(work)
                await asyncio.to_thread(written.wait, PATIENCE)
                seen = [await _count(database), await _count(other)]
                release.set()
                await _result(future)
                assert seen == [0, 0]
                assert [await _count(database), await _count(other)] == [1, 1]

        asyncio.run(scenario())

    def test_writers_do_not_overwrite_each_other(self, another: Connect) -> None:
        """Two databases that count in one row at the same time lose no step, and no step is counted twice."""

        def count(transaction: Transaction) -> float:
            ((at,),) = transaction.rows("UPDATE events SET at = at + 1 WHERE job_id = ? RETURNING at", "a")
            assert isinstance(at, int | float)  # SQLite returns a whole number of a REAL column as an integer
            return at

        async def scenario() -> None:
            async with opened(another) as database, opened(another) as other:
                await database.write(_insert("a", 1))
                counted = await asyncio.gather(*(each.write(count) for each in [database, other] * 60))
                assert sorted(counted) == [float(n) for n in range(1, 121)]

        asyncio.run(scenario())

    def test_a_watch_tells_of_commits_elsewhere(self, another: Connect) -> None:
        """`watch` calls after each commit of another database, from before the first one, and no more once ended."""
        calls = 0

        def changed() -> None:
            nonlocal calls
            calls += 1

        async def scenario() -> None:
            async with opened(another) as database, opened(another) as other:
                end = database.watch(changed)
                for number in range(3):
                    seen = calls
                    await other.write(_insert("a", number))
                    await _until(lambda seen=seen: calls > seen)  # type: ignore[misc]
                    await asyncio.sleep(0.12)  # what the promise allows: no late call is taken for the next one's
                end()
                await asyncio.sleep(0.12)
                seen = calls
                await other.write(_insert("a", 10))
                await asyncio.sleep(0.2)
                assert calls == seen

        asyncio.run(scenario())

    def test_a_watcher_that_raises_harms_no_other(self, another: Connect) -> None:
        """A callback's exception is logged; others are called, again and again."""
        calls: list[int] = []

        def broken() -> None:
            raise ZeroDivisionError("a mistake")

        async def scenario() -> None:
            async with opened(another) as database, opened(another) as other:
                ends = [database.watch(broken), database.watch(lambda: calls.append(1))]
                for number in range(2):
                    await asyncio.sleep(0.12)
                    seen = len(calls)
                    await other.write(_insert("a", number))
                    await _until(lambda seen=seen: len(calls) > seen)  # type: ignore[misc]
                for end in ends:
                    end()
                    end()

        asyncio.run(scenario())

    # Workers

    def test_workers_have_numbers_of_their_own(self, connect: Connect) -> None:
        """Every registration gives a new number, and what is registered is not dead; unknown numbers are."""

        async def scenario() -> None:
            async with opened(connect) as database:
                numbers = [await database.register() for _ in range(3)]
                assert len(set(numbers)) == 3
                assert await database.dead(numbers) == set()
                assert await database.dead([]) == set()
                assert await database.dead([*numbers, 10**6]) == {10**6}

        asyncio.run(scenario())

    def test_workers_are_known_to_others(self, another: Connect) -> None:
        """A worker of another database lives until that is closed, and its number is not given again."""

        async def scenario() -> None:
            async with opened(another) as database:
                async with opened(another) as other:
                    number = await other.register()
                    mine = await database.register()
                    assert number != mine
                    assert await database.dead([number, mine]) == set()
                    assert await other.dead([number, mine]) == set()
                await _until_async(lambda: database.dead([number, mine]), {number})
                assert await database.register() > max(number, mine)

        asyncio.run(scenario())


@asynccontextmanager
async def opened(connect: Connect) -> "AsyncIterator[Database]":
    """Open another database, and close it in the end."""
    database = connect()
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _query(sql: str) -> Operation[list[tuple[Value, ...]]]:
    return lambda transaction: transaction.rows(sql)


def _insert(job_id: str, number: int) -> Operation[int]:
    sql = "INSERT INTO events (job_id, id, type, at, data) VALUES (?, ?, 'log', 0, ?) ON CONFLICT DO NOTHING"
    return lambda transaction: transaction.change(sql, job_id, number, b"{}")


def _refuse(_: Transaction) -> None:
    raise ConflictError("not now")


class _held:  # noqa: N801  # reads as the statement it is used in
    """Keeps the writer busy, so that what is queued meanwhile forms a group."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._release = threading.Event()

    def __enter__(self) -> None:
        self._database.enqueue(lambda _: self._release.wait(PATIENCE))

    def __exit__(self, *_: object) -> None:
        self._release.set()


async def _count(database: Database) -> int:
    ((count,),) = await database.read(_query("SELECT count(*) FROM events"))
    assert isinstance(count, int)
    return count


async def _refused(database: Database) -> bool:
    """True when a database that is not open says so, whichever way it is asked."""
    with pytest.raises(UnavailableError):
        await database.write(_nothing)
    with pytest.raises(UnavailableError):
        await database.read(_nothing)
    with pytest.raises(UnavailableError):
        await database.register()
    with pytest.raises(UnavailableError):
        await database.dead([1])
    with pytest.raises(UnavailableError):
        database.enqueue(_nothing).result(PATIENCE)
    return True


def _nothing(_: Transaction) -> None:
    """Do nothing."""


async def _result(future: "Future[T]") -> T:
    return await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)


def _moments() -> Iterator[float]:
    """Yield until patience ends."""
    deadline = time.monotonic() + PATIENCE
    for _ in itertools.count():
        if time.monotonic() > deadline:
            pytest.fail(f"it did not happen within {PATIENCE:g} s")
        yield 0.005


async def _until(condition: Callable[[], bool]) -> None:
    for moment in _moments():
        if condition():
            return
        await asyncio.sleep(moment)


async def _until_async(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    for moment in _moments():
        if await ask() == wanted:
            return
        await asyncio.sleep(moment)
