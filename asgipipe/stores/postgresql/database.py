"""A store in a PostgreSQL database, shared by processes of any number of machines."""

import os
import socket
import time
from collections.abc import Callable, Collection
from functools import partial

from asgipipe.stores.lane import Lane
from asgipipe.stores.laned import LanedDatabase, Opened
from asgipipe.stores.postgresql import connection, liveness
from asgipipe.stores.postgresql.attendant import Attendant
from asgipipe.stores.postgresql.diagnosis import diagnose
from asgipipe.stores.postgresql.limits import Limits
from asgipipe.stores.postgresql.server import Server


class PostgreSQLDatabase(LanedDatabase["PostgreSQLOpened"]):
    """`url` is one of libpq's: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS.

    The tables are made in the schema that comes first in the search path. A group of operations that are not urgent
    waits `gather` seconds for others. `clock` is monotonic, and tells that a worker could give no sign of life for too
    long. Raises StoreError when the URL is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        limits: Limits | None = None,
        gather: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = Server(url, limits or Limits())
        self._gather = gather
        self._clock = clock

    @property
    def place(self) -> str:
        return self._server.place

    @property
    def url(self) -> str:
        """For programs that connect to it by themselves: it may hold a password."""
        return self._server.url

    def exists(self) -> bool:
        """True: nothing but asking could tell."""
        return True

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._open.attendant.watch(changed)

    async def register(self) -> int:
        opened = self._open
        since = self._clock()
        insert = partial(liveness.insert, host=socket.gethostname(), pid=os.getpid(), lifetime=self._lifetime)
        number = await opened.write(insert)
        opened.attendant.renew(number, since)
        return number

    async def dead(self, workers: Collection[int]) -> set[int]:
        opened = self._open
        lost = opened.attendant.lost() & set(workers)
        others = set(workers) - lost
        # A look first, because it waits for nobody; to declare somebody dead is a change.
        silent = others - await opened.read(partial(liveness.living, workers=others, lifetime=self._lifetime))
        if not silent:
            return lost
        return lost | await opened.write(partial(liveness.bury, workers=silent, lifetime=self._lifetime))

    @property
    def _lifetime(self) -> float:
        return self._server.limits.lifetime

    def _start(self) -> "PostgreSQLOpened":
        lane = partial(Lane, diagnose=diagnose, place=self.place, patience=self._server.limits.operation)
        writer = lane(partial(connection.writer, self._server), name="asgipipe-store-writer", gather=self._gather)
        # One operation at a time, so that a slow one keeps only one of the threads.
        read = partial(connection.reader, self._server)
        reader = lane(read, name="asgipipe-store-reader", threads=2, most=1, gather=0)
        return PostgreSQLOpened(writer, reader, Attendant(self._server, self._clock))


class PostgreSQLOpened(Opened):
    def __init__(self, writer: Lane, reader: Lane, attendant: Attendant) -> None:
        super().__init__(writer, reader)
        self.attendant = attendant

    async def close(self) -> None:
        await super().close()
        # Last, because a worker lives while what it has queued is being done.
        await self.attendant.close()
