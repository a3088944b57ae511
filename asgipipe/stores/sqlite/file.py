"""Opening the file of a store: made if need be, found to be ours, brought up to date."""

import os
import sqlite3
import threading
from pathlib import Path

from asgipipe.errors import StoreError
from asgipipe.stores import migrations
from asgipipe.stores.schema import SQLITE
from asgipipe.stores.sqlite import places
from asgipipe.stores.sqlite.connection import SQLiteConnection, refuse_inherited

APPLICATION_ID = 0x61736770
"""`asgp` in the header of our files: https://www.sqlite.org/pragma.html#pragma_application_id"""

OLDEST = (3, 35)
"""RETURNING came with it: https://www.sqlite.org/lang_returning.html"""

WRITE = "BEGIN IMMEDIATE"
"""Waits for its turn; a transaction that becomes a writer later fails at once when somebody else has written."""
READ = "BEGIN"

_making = threading.Lock()


class SQLiteFile:
    """A file, or (`path` None) the memory; `factory` makes connections, and is where tests put faults.

    `lock_wait` is how many seconds SQLite waits for a lock before it reports that the file is busy.
    """

    def __init__(self, path: Path | None, factory: type[sqlite3.Connection] | None, lock_wait: float) -> None:
        self.path = path
        self._factory = factory or sqlite3.Connection
        self._lock_wait = lock_wait

    def writer(self) -> SQLiteConnection:
        """Return a connection that writes, to a file that is there and up to date."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise StoreError(
                f"Python's SQLite has version {sqlite3.sqlite_version}, and a store needs {_dotted(OLDEST)}: "
                "use a newer Python, or set store_url to postgresql://..."
            )
        if self.path is not None:
            places.refuse_network(self.path)
            places.make_folder(self.path.parent)
            _make(self.path)
            self._inspect(self.path)
        connection = self._connect("rw", WRITE)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self) -> SQLiteConnection:
        """Return a connection that reads what a writer has prepared."""
        connection = self._connect("rw", READ)
        connection.rows("PRAGMA query_only = 1")
        return connection

    def _connect(self, mode: str, begin: str) -> SQLiteConnection:
        if self.path is not None:
            refuse_inherited(self.path)
        place = ":memory:" if self.path is None else f"{self.path.as_uri()}?mode={mode}"
        connection = sqlite3.connect(
            place,
            uri=self.path is not None,
            timeout=self._lock_wait,
            isolation_level=None,
            check_same_thread=False,  # whoever opened it hands it to its thread, or closes it for it
            factory=self._factory,
        )
        return SQLiteConnection(connection, begin, self.path, self._lock_wait)

    def _inspect(self, path: Path) -> None:
        """Raise StoreError unless the file is ours or empty; it is opened for reading alone, and so left as it is."""
        size = path.stat().st_size
        connection = self._connect("ro", READ)
        try:
            connection.begin()
            self._version(connection)
            pages = connection.row("PRAGMA page_count")
            connection.commit()
        finally:
            connection.close()
        if size and pages == (0,):  # SQLite would overwrite what is shorter than its smallest page
            raise _no_database(path)

    def _prepare(self, connection: SQLiteConnection) -> None:
        ((mode,),) = connection.rows("PRAGMA journal_mode = WAL")
        if mode not in {"wal", "memory"}:
            raise StoreError(f"the file system of {self.path} cannot hold a store: set store_url to another place")
        connection.rows("PRAGMA synchronous = FULL")
        connection.rows("PRAGMA journal_size_limit = 67108864")
        connection.begin()  # two processes may have come here at once: whoever is second finds it done
        version = self._version(connection)
        if version < migrations.VERSION:
            migrations.upgrade(connection, version, SQLITE)
            connection.change(f"PRAGMA user_version = {migrations.VERSION}")
            connection.change(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.commit()
        connection.rows("PRAGMA busy_timeout = 0")  # from here on `begin` is all that waits, and it does so by itself

    def _version(self, connection: SQLiteConnection) -> int:
        try:
            ((application,),) = connection.rows("PRAGMA application_id")
            ((version,),) = connection.rows("PRAGMA user_version")
            ((tables,),) = connection.rows("SELECT count(*) FROM sqlite_schema")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_NOTADB:
                raise
            raise _no_database(self.path) from error
        if application != APPLICATION_ID and (application or version or tables):
            raise StoreError(f"{self.path} is a database of another program: set store_url to another place")
        assert isinstance(version, int)
        migrations.check(version, str(self.path))
        return version


def _no_database(path: Path | None) -> StoreError:
    return StoreError(f"{path} is no SQLite database: set store_url to another place")


def _make(path: Path) -> None:
    """Make an empty file that only this user may read, which SQLite takes for an empty database.

    SQLite gives its log and its index the same rights. In one process it is done by one thread at a time, because
    closing a descriptor of a file would release the locks that another thread's connection has on it.
    """
    with _making:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        os.close(descriptor)
    places.flush(path.parent)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
