"""PostgreSQL as a store: what the conformance suite asks of every database, and what is its own."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asgipipe.errors import StoreError, UnavailableError
from asgipipe.stores import schema
from asgipipe.stores.database import Pipelined, Transaction
from asgipipe.testing.databases import Connect, DatabaseConformance
from tests.postgresql import PostgreSQLServer

pytest.importorskip("psycopg", reason="the postgres extra is not installed")

import psycopg

from asgipipe.stores.postgresql import Limits, PostgreSQLDatabase
from asgipipe.stores.postgresql.dialect import translated

PATIENCE = 20.0
CANARY = "s3cr%t canary"
QUOTED = "s3cr%25t%20canary"


class TestPostgreSQL(DatabaseConformance):
    @pytest.fixture
    def connect(self, postgresql_url: str) -> Connect:
        return lambda: PostgreSQLDatabase(postgresql_url)


@contextlib.asynccontextmanager
async def opened(
    url: str, limits: Limits | None = None, **options: Callable[[], float]
) -> AsyncIterator[PostgreSQLDatabase]:
    database = PostgreSQLDatabase(url, limits=limits, **options)  # type: ignore[arg-type]
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Do statements in a session of their own, and return what the last one gives."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = None
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor is not None and cursor.description else []


def open_and_close(url: str, limits: Limits | None = None) -> None:
    async def scenario() -> None:
        async with opened(url, limits):
            pass

    asyncio.run(scenario())


# Tables


def test_an_older_store_is_upgraded(postgresql_url: str) -> None:
    """A database with the first tables alone gets the others, and keeps what it holds."""
    first = schema.statements(schema.STEPS[0], schema.POSTGRESQL)
    insert = "INSERT INTO events VALUES ('a', 1, 'log', NULL, 0, '')"
    execute(postgresql_url, *first, "CREATE TABLE asgipipe_version AS SELECT 1::bigint AS version", insert)
    open_and_close(postgresql_url)
    assert execute(postgresql_url, "SELECT version FROM asgipipe_version") == [(len(schema.STEPS),)]
    assert execute(postgresql_url, "SELECT count(*) FROM events, (SELECT count(*) FROM runs) AS runs") == [(1,)]


def test_a_newer_store_is_refused(postgresql_url: str) -> None:
    """A database of a later asgipipe is refused with both versions, and stays as it is."""
    execute(postgresql_url, "CREATE TABLE asgipipe_version AS SELECT 99::bigint AS version")
    with pytest.raises(StoreError, match="version 99"):
        open_and_close(postgresql_url)
    assert execute(postgresql_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_tables_of_somebody_else_are_left_alone(postgresql_url: str) -> None:
    """A schema with a table of the same name is refused, with the way out; nothing is made in it."""
    execute(postgresql_url, "CREATE TABLE jobs (mine TEXT)")
    with pytest.raises(StoreError, match="search_path"):
        open_and_close(postgresql_url)
    assert execute(postgresql_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("jobs",)]


def test_the_search_path_says_where_tables_are(postgresql_url: str) -> None:
    """Two schemas of one database are two stores, which do not wake each other; one that is missing is refused."""
    execute(postgresql_url, "CREATE SCHEMA one", "CREATE SCHEMA two")
    calls: list[float] = []

    async def scenario() -> None:
        one, two = (f"{postgresql_url}&options=-csearch_path%3D{name},public" for name in ("one", "two"))
        async with opened(one) as first, opened(one) as beside, opened(two) as second:
            for database in (first, second):
                assert await database.write(_add("a")) == 1
            beside.watch(lambda: calls.append(time.monotonic()))
            await asyncio.sleep(0.3)
            seen = len(calls)
            await second.write(_add("b"))
            await asyncio.sleep(0.2)
            assert len(calls) == seen

    asyncio.run(scenario())
    assert execute(postgresql_url, "SELECT (SELECT count(*) FROM one.events), (SELECT count(*) FROM two.events)") == [
        (1, 2)
    ]
    with pytest.raises(StoreError, match="leads to no schema"):
        open_and_close(f"{postgresql_url}&options=-csearch_path%3Dnowhere")


def test_another_encoding_is_refused(postgresql: PostgreSQLServer) -> None:
    """A database that cannot keep every text is refused when it is opened."""
    postgresql.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    with pytest.raises(StoreError, match="LATIN1"):
        open_and_close(postgresql.url("latin"))
    postgresql.execute("DROP DATABASE latin WITH (FORCE)")


# Passwords, and servers that cannot be reached


def test_passwords_are_never_told(postgresql: PostgreSQLServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the place, nor an error, nor a log line holds the password: it is wrong, right, or cannot be read."""
    caplog.set_level(logging.DEBUG)
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        postgresql.execute("CREATE ROLE guarded LOGIN PASSWORD 'right canary'")
    place = postgresql.url().replace("postgres@", f"guarded:{QUOTED}@")
    limits = Limits(connecting=2, operation=0.3)
    said = [PostgreSQLDatabase(place).place]
    for wrong in (place, postgresql.url().replace("postgres@", "guarded@") + f"&password={QUOTED}"):
        with pytest.raises(UnavailableError) as refused:
            open_and_close(wrong, limits)
        said.append(str(refused.value.detail))
    with pytest.raises(StoreError, match="permission denied") as denied:
        open_and_close(place.replace(QUOTED, "right%20canary"), limits)
    said.append(str(denied.value))
    for mistaken in (place.replace(QUOTED, "%zz canary"), f"{place}&nonsense={QUOTED}"):
        with pytest.raises(StoreError) as unreadable:
            PostgreSQLDatabase(mistaken)
        said.append(str(unreadable.value))
    assert "guarded" in caplog.text
    assert "password authentication failed" in caplog.text
    for text in (*said, caplog.text):
        assert "canary" not in text


def test_a_server_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried for a while; then callers hear that it cannot be reached, and one line of the log says where."""
    began = time.monotonic()
    with pytest.raises(UnavailableError) as refused:
        open_and_close(f"postgresql://somebody:canary@/store?host={tmp_path}", Limits(operation=0.5))
    assert 0.4 < time.monotonic() - began < 3
    assert str(tmp_path) not in refused.value.detail
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "postgresql://somebody:**********@/store" in record.getMessage()
    assert "No such file or directory" in record.getMessage()


# Values


def test_what_postgresql_cannot_keep_is_replaced(postgresql_url: str) -> None:
    """A text with NUL is kept with U+FFFD in its place, in single changes and in many."""
    insert = "INSERT INTO events (job_id, id, type, at, data) VALUES (?, ?, 'log', 0, ?)"

    def work(transaction: Transaction) -> object:
        transaction.change(insert, "a\0b", 1, b"a\0b")
        transaction.change_many(insert, [("a\0b", 2, b""), ("c", 3, b"")])
        return transaction.rows("SELECT job_id, data FROM events ORDER BY id")

    async def scenario() -> None:
        async with opened(postgresql_url) as database:
            assert await database.write(work) == [("a\ufffdb", b"a\0b"), ("a\ufffdb", b""), ("c", b"")]

    asyncio.run(scenario())


def test_numbers_are_what_they_are_on_sqlite(postgresql_url: str) -> None:
    """Sums of integers are integers, sums of floats floats; small integers do not overflow, and True is 1."""

    def work(transaction: Transaction) -> object:
        transaction.change_many(
            "INSERT INTO events (job_id, id, type, at, data) VALUES ('a', ?, 'log', ?, '')",
            [(2**40, 0.5), (True, 0.25)],
        )
        return transaction.rows("SELECT SUM(id), SUM(at), AVG(id), ? * ?, '?%' FROM events", 30000, 30000)

    async def scenario() -> None:
        async with opened(postgresql_url) as database:
            ((total, times, mean, product, text),) = await database.write(work)  # type: ignore[misc]
            assert [total, times, mean, product, text] == [2**40 + 1, 0.75, 2**39 + 0.5, 900_000_000, "?%"]
            assert [type(value) for value in (total, times, mean)] == [int, float, float]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT ?, ?", b"SELECT %s, %s"),
        ("SELECT 'a?', 'it''s ?', ? % 2", b"SELECT 'a?', 'it''s ?', %s %% 2"),
        ("SELECT id FROM a WHERE b LIKE '%?' AND c = ?", b"SELECT id FROM a WHERE b LIKE '%%?' AND c = %s"),
    ],
)
def test_placeholders_are_translated(sql: str, expected: bytes) -> None:
    """Question marks become psycopg's placeholders outside of literals, and per cent signs are left as they are."""
    assert translated(sql) == expected


# Workers


def test_a_worker_without_a_sign_of_life_is_dead_for_ever(postgresql_url: str) -> None:
    """A worker lives as long as it is renewed; one that could not be in time is dead to others, and to itself."""
    limits = Limits(renewal=0.1, lifetime=0.6)
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        async with (
            opened(postgresql_url, limits, clock=lambda: now) as database,
            opened(postgresql_url, limits) as other,
        ):
            stale, mine = await database.register(), await other.register()
            await asyncio.sleep(1.0)
            assert await other.dead([stale, mine]) == set()
            now += 1.0  # as if this process had stood still
            assert await database.dead([stale, mine]) == {stale}
            now -= 1.0
            deadline = time.monotonic() + 10
            while await other.dead([stale, mine]) != {stale}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            assert await database.dead([stale, mine]) == {stale}
            again = await database.register()
            assert again > mine
            assert await other.dead([stale, mine, again]) == {stale}

    asyncio.run(scenario())


def test_who_was_declared_dead_hears_of_it(postgresql_url: str) -> None:
    """A worker whose row another one has deleted notices at its next sign of life."""

    async def scenario() -> None:
        async with opened(postgresql_url, Limits(renewal=0.1)) as database:
            worker = await database.register()
            execute(postgresql_url, "DELETE FROM workers")
            deadline = time.monotonic() + 10
            while database._open.attendant.lost() != {worker}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_many_workers_leave_no_rows(postgresql_url: str) -> None:
    """Rows of dead workers go when another worker comes, and those of a database when it is closed."""
    insert = (
        "INSERT INTO workers (host, pid, started_at, seen_at) SELECT 'gone', n, 0, 0 FROM generate_series(1, 100) AS n"
    )

    async def scenario() -> None:
        async with opened(postgresql_url) as database:
            execute(postgresql_url, insert)
            await database.register()
            assert execute(postgresql_url, "SELECT count(*) FROM workers") == [(1,)]
        assert execute(postgresql_url, "SELECT count(*) FROM workers") == [(0,)]

    asyncio.run(scenario())


def _add(job_id: str) -> Callable[[Transaction], int]:
    sql = "INSERT INTO events (job_id, id, type, at, data) VALUES (?, 1, 'log', 0, '')"
    return lambda transaction: transaction.change(sql, job_id)


# What is under way


def _sent(
    number: int, sql: str = "INSERT INTO events VALUES ('a', ?, 'log', NULL, 0, '') RETURNING id"
) -> Pipelined[int]:
    def send(transaction: Transaction) -> Callable[[], int]:
        answer = transaction.ask(sql, number)

        def result() -> int:
            ((value,),) = answer()
            assert isinstance(value, int)
            return value

        return result

    return Pipelined(send)


def test_what_is_under_way_fails_for_itself(postgresql_url: str) -> None:
    """One of many operations that are under way together is refused by the server, and the others are done."""
    numbers = range(20)  # enough for psycopg to prepare the statement in between

    async def scenario() -> list[int | BaseException]:
        async with opened(postgresql_url) as database:
            await database.write(_sent(3))
            work = (database.write(_sent(each)) for each in numbers)
            results = await asyncio.gather(*work, return_exceptions=True)
            assert await database.write(_sent(20)) == 20
            return results

    results = asyncio.run(scenario())
    assert isinstance(results.pop(3), psycopg.errors.UniqueViolation)
    assert results == [number for number in numbers if number != 3]
    assert execute(postgresql_url, "SELECT count(*) FROM events") == [(21,)]


def test_a_group_waits_twice_for_the_server(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many operations there are, answers are waited for once, and then the commit; not where they are there."""
    asked, waits = 0, list[int]()
    original = psycopg.Pipeline._fetch_gen

    def fetch(self: psycopg.Pipeline, *, flush: bool) -> object:
        nonlocal asked
        asked += 1
        if self.result_queue:
            waits.append(len(self.result_queue))
        return original(self, flush=flush)

    async def scenario() -> None:
        async with opened(postgresql_url) as database:
            await database.write(_sent(0))
            monkeypatch.setattr(psycopg.Pipeline, "_fetch_gen", fetch)
            futures = [database.enqueue(_sent(each), urgent=False) for each in range(1, 21)]
            await asyncio.gather(*map(asyncio.wrap_future, futures))

    asyncio.run(scenario())
    assert asked
    assert len(waits) <= 2


def test_large_values_under_way(postgresql_url: str) -> None:
    """More than the buffers of both ends hold is under way at once, and arrives."""
    data = b"x" * 2_000_000

    def sent(number: int) -> Pipelined[bool]:
        def send(transaction: Transaction) -> Callable[[], bool]:
            sql = "INSERT INTO events VALUES ('a', ?, 'log', NULL, 0, ?) RETURNING data"
            answer = transaction.ask(sql, number, data)
            return lambda: answer() == [(data,)]

        return Pipelined(send)

    async def scenario() -> list[bool]:
        async with opened(postgresql_url) as database:
            return await asyncio.gather(*(database.write(sent(number)) for number in range(4)))

    assert asyncio.run(scenario()) == [True] * 4


def test_a_process_that_stands_still_is_seen_to_be_idle(postgresql_url: str) -> None:
    """Between two statements the server knows that it waits for the process, and ends that after `Limits.idle`."""
    state = "SELECT state FROM pg_stat_activity WHERE pid = {}"

    def send(transaction: Transaction) -> Callable[[], list[tuple[object, ...]]]:
        answer = transaction.ask("SELECT pg_backend_pid()")

        def result() -> list[tuple[object, ...]]:
            ((pid,),) = answer()
            return execute(postgresql_url, state.format(pid))

        return result

    async def scenario() -> list[tuple[object, ...]]:
        async with opened(postgresql_url) as database:
            return await database.write(Pipelined(send))

    assert asyncio.run(scenario()) == [("idle in transaction",)]


def test_a_change_within_a_query_is_told(postgresql_url: str) -> None:
    """Other processes hear of what a query has changed that begins with WITH."""
    told = threading.Event()
    change = "WITH one AS (INSERT INTO events VALUES ('a', ?, 'log', NULL, 0, '') RETURNING id) SELECT id FROM one"

    async def scenario() -> None:
        async with opened(postgresql_url) as database, opened(postgresql_url) as other:
            database.watch(told.set)
            assert await asyncio.to_thread(told.wait, PATIENCE)  # when it begins to listen
            told.clear()
            assert await other.write(_sent(7, change)) == 7
            assert await asyncio.to_thread(told.wait, PATIENCE)

    asyncio.run(scenario())
