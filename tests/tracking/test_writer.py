import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TypeVar

import pytest

from asgipipe.errors import UnavailableError
from asgipipe.stores.database import Database, Operation
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.stores.registry import database
from asgipipe.tracking.capture import Part
from asgipipe.tracking.records import Subject
from asgipipe.tracking.writer import BackgroundWriter
from tests.conftest import PATIENCE
from tests.http.wire import until
from tests.tracking.serving import on_a_loop

T = TypeVar("T")


class Failing(Database):
    """A database whose writes fail while `broken`; `held` operations wait until it is let go."""

    def __init__(self) -> None:
        self._real = database("memory:")
        self.broken = False
        self.attempts = 0
        self.groups: list[int] = []
        self.let_go = asyncio.Event()
        self.let_go.set()

    place = "memory:"

    def exists(self) -> bool:
        return True

    async def open(self) -> None:
        await self.let_go.wait()
        await self._real.open()

    async def close(self) -> None:
        await self._real.close()

    def enqueue(self, operation: Operation[T], *, urgent: bool = True) -> "Future[T]":
        self.attempts += 1
        if self.broken:
            failed: Future[T] = Future()
            failed.set_exception(UnavailableError("The store cannot be reached."))
            return failed
        return self._real.enqueue(operation, urgent=urgent)

    async def write(self, operation: Operation[T]) -> T:
        return await self._real.write(operation)

    async def read(self, operation: Operation[T]) -> T:
        return await self._real.read(operation)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._real.watch(changed)

    async def register(self) -> int:
        return 1

    async def dead(self, workers: Collection[int]) -> set[int]:
        return set()

    async def count(self) -> object:
        row = await self.read(lambda transaction: transaction.row("SELECT COUNT(*) FROM runs"))
        return row[0] if row else None


def part(number: int, *, waiter: "Future[None] | None" = None, size: int = 10) -> Part:
    row = (f"run-{number}", "d", "p", "n", 1, "completed", 1.0, 2.0, 1.0, None, b"{}", b"{}", None)
    return Part(row, size=size, waiter=waiter)


def writer_of(store: Failing, **options: object) -> BackgroundWriter:
    def no_files() -> object:
        raise AssertionError("nothing here is large")

    subject = Subject("d", "p", b"{}")
    writer = BackgroundWriter(LazyDatabase(lambda: store), subject, no_files, keeps_files=False, **options)  # type: ignore[arg-type]
    writer.start()
    return writer


@on_a_loop
async def test_groups() -> None:
    """What gathers while the store is busy is written together."""
    store = Failing()
    store.let_go.clear()
    writer = writer_of(store)
    for number in range(500):
        writer.put(part(number))
        await asyncio.sleep(0)
    store.let_go.set()
    await writer.stop(5)
    assert await store.count() == 500
    assert store.attempts <= 2
    await store.close()


@on_a_loop
async def test_a_full_buffer() -> None:
    """When the bound is reached runs are made to wait, which is counted, until there is room again."""
    store = Failing()
    store.let_go.clear()
    writer = writer_of(store, max_rows=10)
    for number in range(10):
        assert not writer.full
        writer.put(part(number))
    assert writer.full
    room = writer.room()
    assert (writer.waits, room.done()) == (1, False)
    store.let_go.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wrap_future(room)
    assert not writer.full
    await writer.stop(5)
    assert await store.count() == 10
    await store.close()


@on_a_loop
async def test_a_buffer_full_of_bytes() -> None:
    """Large payloads reach the bound before many rows do."""
    store = Failing()
    store.let_go.clear()
    writer = writer_of(store, max_bytes=1000)
    writer.put(part(1, size=1000))
    assert writer.full
    store.let_go.set()
    await writer.stop(5)
    await store.close()


@on_a_loop
async def test_a_store_that_comes_back() -> None:
    """Writes are tried again until the store works, and nothing is lost."""
    store = Failing()
    store.broken = True
    writer = writer_of(store)
    waiter: Future[None] = Future()
    writer.put(part(1, waiter=waiter))
    await until(lambda: store.attempts >= 2)
    assert not waiter.done()
    store.broken = False
    async with asyncio.timeout(PATIENCE):
        await asyncio.wrap_future(waiter)
    assert (await store.count(), writer.lost) == (1, 0)
    await writer.stop(5)
    await store.close()


@on_a_loop
async def test_a_store_that_stays_away(caplog: pytest.LogCaptureFixture) -> None:
    """After a while rows are given up: counted, told once a minute, and nobody waits for ever."""
    now = 0.0
    store = Failing()
    store.broken = True
    writer = writer_of(store, clock=lambda: now)
    waiter: Future[None] = Future()
    writer.put(part(1, waiter=waiter))
    await until(lambda: store.attempts >= 1)
    now = 11.0
    async with asyncio.timeout(PATIENCE):
        await asyncio.wrap_future(waiter)
    for number in range(2, 5):
        writer.put(part(number))
        await until(lambda expected=number: writer.lost == expected)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == ["1 rows of recorded runs could not be written and are lost: The store cannot be reached."]
    now = 72.0
    writer.put(part(5))
    await until(lambda: writer.lost == 5)
    assert "4 rows of recorded runs" in caplog.text
    store.broken = False
    writer.put(part(6))
    await writer.stop(5)
    assert await store.count() == 1
    await store.close()


@on_a_loop
async def test_a_second_life() -> None:
    """A writer that was stopped in the middle of a write, because the store hung, writes again when it is started."""
    store = Failing()
    store.let_go.clear()
    writer = writer_of(store)
    writer.put(part(1))
    await asyncio.sleep(0)
    await writer.stop(0.01)
    store.let_go.set()
    writer.start()
    waiter: Future[None] = Future()
    writer.put(part(2, waiter=waiter))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wrap_future(waiter)
    await writer.stop(5)
    assert await store.count() == 1
    await store.close()


@on_a_loop
async def test_after_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """What a thread that was left behind hands over after the stop opens nothing, and is counted."""
    store = Failing()
    writer = writer_of(store)
    await writer.stop(5)
    writer.put(part(1))
    await asyncio.sleep(0)
    assert (store.attempts, writer.lost) == (0, 1)
    assert "1 rows of recorded runs" in caplog.text
