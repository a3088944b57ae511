"""What operations are done over."""

from collections.abc import Iterable, Sequence

from psycopg import Cursor, IsolationLevel
from psycopg.rows import TupleRow

from asgipipe.stores import lane
from asgipipe.stores.database import Row, Value
from asgipipe.stores.postgresql import tables
from asgipipe.stores.postgresql.dialect import storable, translated
from asgipipe.stores.postgresql.link import Link
from asgipipe.stores.postgresql.server import Server


class Connection(lane.Connection):
    """Transactions of changes; who listens to `channel` hears of each that has changed anything, at its commit.

    They are READ COMMITTED: what an operation has read may be changed by another process before it writes, so the
    conditions of a change stand in the change, or the row is locked when it is read.
    """

    dialect = "postgresql"

    def __init__(self, link: Link, server: Server, channel: str | None) -> None:
        self._link = link
        self._server = server
        self._channel = channel
        self._changed = False

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        cursor = self._execute(sql, parameters)
        status = cursor.statusmessage or ""
        self._changed = self._changed or (cursor.rowcount > 0 and not status.startswith("SELECT"))
        return cursor.fetchall()

    def change(self, sql: str, *parameters: Value) -> int:
        count = max(self._execute(sql, parameters).rowcount, 0)
        self._changed = self._changed or count > 0
        return count

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        values = [storable(row) for row in rows]
        if values:
            self._changed = True
            self._link.cursor().executemany(translated(sql), values)

    def begin(self) -> None:
        """Psycopg begins with the first statement."""

    def commit(self) -> None:
        if self._changed and self._channel is not None:
            self._link.execute("SELECT pg_notify(%s, '')", (self._channel,))
            self._changed = False
        self._link.commit()

    def rollback(self) -> None:
        self._changed = False
        self._link.rollback()

    def close(self) -> None:
        self._server.release(self._link)

    def _execute(self, sql: str, parameters: Sequence[Value]) -> Cursor[TupleRow]:
        return self._link.execute(translated(sql), storable(parameters), binary=True)


def writer(server: Server) -> Connection:
    """Return a connection for changes of tables that are there and up to date."""
    link = server.connect()
    try:
        tables.prepare(link, server)
        channel = tables.channel(link)
        link.autocommit = False
    except BaseException:
        server.release(link)
        raise
    return Connection(link, server, channel)


def reader(server: Server) -> Connection:
    """Return a connection for transactions that change nothing, each of which sees one moment."""
    link = server.connect()
    link.isolation_level = IsolationLevel.REPEATABLE_READ
    link.read_only = True
    link.autocommit = False
    return Connection(link, server, None)
