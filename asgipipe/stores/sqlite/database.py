"""A store in one SQLite file, shared by the processes of one machine; or in the memory of one process.

WAL, so that readers and the writer do not wait for each other, and synchronous=FULL, so that what was acknowledged
outlives a loss of power: https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import os
import socket
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asgipipe.settings.stores import MEMORY
from asgipipe.stores.database import Transaction
from asgipipe.stores.lane import Lane
from asgipipe.stores.laned import LanedDatabase, Opened
from asgipipe.stores.sqlite.liveness import Workers

if TYPE_CHECKING:
    import sqlite3

    from asgipipe.stores.sqlite.watcher import Watcher

_REMEMBERED = 1000
"""Workers that are looked at for being forgotten when another one comes."""


class SQLiteDatabase(LanedDatabase["SQLiteOpened"]):
    """`path` None keeps everything in memory, over one connection.

    A group of operations that are not urgent waits `gather` seconds for others. What is locked by another process is
    waited for `lock_wait` seconds, and again within `patience` seconds. `watch_interval` is how often changes of
    others are looked for. `clock` is the time that workers are noted with; `factory` makes connections.

    SQLite's library is loaded when it is opened: every deployment asks whether there is a store, many never have one.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        factory: "type[sqlite3.Connection] | None" = None,
        gather: float = 0.05,
        lock_wait: float = 2.0,
        patience: float = 3.0,
        watch_interval: float = 0.04,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._factory = factory
        self._lock_wait = lock_wait
        self._gather = gather
        self._patience = patience
        self._watch_interval = watch_interval
        self._clock = clock

    @property
    def place(self) -> str:
        return MEMORY if self._path is None else str(self._path)

    def exists(self) -> bool:
        if self._path is None:
            return self._is_open()
        try:
            os.stat(self._path)  # noqa: PTH116  # asked often, and often about nothing
        except OSError:
            return False
        return True

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        watcher = self._open.watcher
        return watcher.add(changed) if watcher is not None else _nobody_else

    async def register(self) -> int:
        opened = self._open
        dead = await self.dead(await opened.read(_known_workers))
        number = await opened.write(partial(_insert_worker, now=self._clock(), dead=dead))
        # After the commit, because the number of one that was undone is given to somebody else.
        await opened.read(lambda _: opened.workers.add(number))
        return number

    async def dead(self, workers: Collection[int]) -> set[int]:
        opened = self._open
        return await opened.read(lambda _: opened.workers.dead(workers))

    def _start(self) -> "SQLiteOpened":
        from asgipipe.stores.sqlite.connection import diagnose
        from asgipipe.stores.sqlite.file import SQLiteFile
        from asgipipe.stores.sqlite.watcher import Watcher

        file = SQLiteFile(self._path, self._factory, self._lock_wait)
        lane = partial(Lane, diagnose=diagnose, place=self.place, patience=self._patience)
        writer = lane(file.writer, name="asgipipe-store-writer", gather=self._gather)
        if self._path is None:
            return SQLiteOpened(writer, writer, Workers(None), None)
        # One operation at a time, so that a slow one keeps only one of the threads.
        reader = lane(file.reader, name="asgipipe-store-reader", threads=2, most=1, gather=0)
        workers = Workers(self._path.with_name(f"{self._path.name}-workers"))
        return SQLiteOpened(writer, reader, workers, Watcher(file.reader, writer, self._watch_interval))


class SQLiteOpened(Opened):
    def __init__(self, writer: Lane, reader: Lane, workers: Workers, watcher: "Watcher | None") -> None:
        super().__init__(writer, reader)
        self.workers = workers
        self.watcher = watcher

    async def close(self) -> None:
        try:
            if self.watcher is not None:
                await self.watcher.close()
            await super().close()
        finally:
            self.workers.close()


def _nobody_else() -> None:
    """End a watch of what no other process can change."""


def _known_workers(transaction: Transaction) -> set[int]:
    rows = transaction.rows("SELECT id FROM workers ORDER BY id LIMIT ?", _REMEMBERED)
    return {number for (number,) in rows if isinstance(number, int)}


def _insert_worker(transaction: Transaction, *, now: float, dead: Collection[int]) -> int:
    transaction.change_many("DELETE FROM workers WHERE id = ?", [(number,) for number in dead])
    rows = transaction.rows(
        "INSERT INTO workers (host, pid, started_at, seen_at) VALUES (?, ?, ?, ?) RETURNING id",
        socket.gethostname(),
        os.getpid(),
        now,
        now,
    )
    ((number,),) = rows
    assert isinstance(number, int)
    return number
