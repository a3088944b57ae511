"""What operations are done over."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress

import psycopg
from psycopg import Cursor, Pipeline, errors, generators
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
    conditions of a change stand in the change, or the row is locked when it is read. From `begin` on statements are
    sent without waiting for the answers to those before (libpq's pipeline mode): an error may show up later, and at the
    commit at the latest.
    """

    dialect = "postgresql"

    def __init__(self, link: Link, server: Server, channel: str | None, *, begin: str = "BEGIN") -> None:
        self._link = link
        self._server = server
        self._channel = channel
        self._begin = begin
        self._changed = False
        self._pipeline: Pipeline | None = None
        self._under_way = False
        self._exit = ExitStack()

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        return self.ask(sql, *parameters)()

    def ask(self, sql: str, *parameters: Value) -> Callable[[], list[Row]]:
        cursor = self._execute(sql, parameters)

        def answer() -> list[Row]:
            self._wait()
            rows = cursor.fetchall()
            self._changed = self._changed or (bool(rows) and not sql.startswith("SELECT"))
            return rows

        return answer

    def change(self, sql: str, *parameters: Value) -> int:
        cursor = self._execute(sql, parameters)
        self._wait()
        count = max(cursor.rowcount, 0)
        self._changed = self._changed or count > 0
        return count

    def tell(self, sql: str, *parameters: Value) -> None:
        self._execute(sql, parameters)
        self._changed = True

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        values = [storable(row) for row in rows]
        if values:
            self._changed = True
            self._link.cursor().executemany(translated(sql), values)

    def begin(self) -> None:
        self._pipeline = self._exit.enter_context(self._link.pipeline())
        self._link.execute(self._begin, prepare=False)

    def commit(self) -> None:
        if self._changed and self._channel is not None:
            self._link.execute("SELECT pg_notify(%s, '')", (self._channel,))
            self._changed = False
        ended = self._link.execute("COMMIT", prepare=False)
        self._leave()
        if ended.statusmessage != "COMMIT":  # a statement had failed, and nobody has noticed
            raise errors.InFailedSqlTransaction("the transaction was rolled back")

    def rollback(self) -> None:
        self._changed = False
        with suppress(psycopg.Error):  # those of what was under way
            self._leave()
        self._link.rollback()  # forgets what was prepared, too: it may not have been

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._leave()
        self._server.release(self._link)

    def _wait(self) -> None:
        """Wait for the answers to what is under way.

        The server is asked for a Sync, as psycopg does not when it fetches: without one, it takes a transaction whose
        process stands still for one that is busy, and lets it hold its locks for ever.
        """
        if self._pipeline is not None and self._under_way:
            self._under_way = False
            # What did not fit into the socket's buffer would stay behind, and sync() would wait for ever.
            self._link.wait(generators.send(self._link.pgconn))
            self._pipeline.sync()

    def _leave(self) -> None:
        self._pipeline = None
        self._exit.close()

    def _execute(self, sql: str, parameters: Sequence[Value]) -> Cursor[TupleRow]:
        self._under_way = True
        return self._link.execute(translated(sql), storable(parameters), binary=True)


def writer(server: Server) -> Connection:
    """Return a connection for changes of tables that are there and up to date."""
    link = server.connect()
    try:
        tables.prepare(link, server)
        channel = tables.channel(link)
    except BaseException:
        server.release(link)
        raise
    return Connection(link, server, channel)


def reader(server: Server) -> Connection:
    """Return a connection for transactions that change nothing, each of which sees one moment."""
    return Connection(server.connect(), server, None, begin="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
