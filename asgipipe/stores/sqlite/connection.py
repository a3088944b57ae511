"""A connection to SQLite, and what its errors mean."""

import errno
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from asgipipe.errors import AsgipipeError, StorageFullError, StoreError, UnavailableError
from asgipipe.stores.database import Row, Value
from asgipipe.stores.lane import Connection, Diagnosis, Remedy

_FULL = "The server has no room left to keep this."
_BUSY = "The store is locked by another process; try again."
_UNREACHABLE = "The store cannot be reached; the server's log says why."

_BREAKING = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
"""Not the operation's fault, and not over in a moment; a new connection finds out whether it still holds."""

_LOCK_INTERVAL = 0.001
"""Seconds between two tries to get a lock. SQLite's own wait grows to 0.1 s, which is unjust to whoever has waited for
long: four processes that write as fast as they can got 9,400 operations a second done with it and waited 0.7 s at
most; with this, 27,700, and 0.03 s."""

_PRIMARY = 0xFF
"""The part of an error's code that says what happened, not where: https://www.sqlite.org/rescode.html"""

_Inode = tuple[int, int]


class SQLiteConnection(Connection):
    """A connection on which nothing is begun unless `begin` was called.

    `path` is the file that it was opened on: once another one, or none, has that name, `begin` refuses, because what is
    committed to a file without a name is lost. A lock that others hold is waited for `lock_wait` seconds.
    """

    def __init__(self, connection: sqlite3.Connection, begin: str, path: Path | None, lock_wait: float) -> None:
        self._connection = connection
        self._begin = begin
        self._lock_wait = lock_wait
        self._path = path
        self.inode = _inode(path)
        _open.add(self)

    def begin(self) -> None:
        self._check_place()
        deadline = time.monotonic() + self._lock_wait
        while True:
            try:
                self._connection.execute(self._begin)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_INTERVAL)
            else:
                return

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:  # some errors have undone it already
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        if _inode(self._path) != self.inode:
            # Closing deletes the log by its name, which may be that of another database by now:
            # https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use
            self._keep()
        else:
            self._connection.close()
        _open.discard(self)

    def abandon(self) -> None:
        """Give it up in a forked child, and the file with it."""
        if self.inode is not None:
            _inherited.add(self.inode)
        self._keep()

    def _keep(self) -> None:
        """Never close it, not even when the interpreter ends, which collects all that Python code refers to."""
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def version(self) -> int:
        """Return what differs from one call to the next when another connection has committed; nothing is begun."""
        self._check_place()
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        assert isinstance(version, int)
        return version

    def _check_place(self) -> None:
        if _inode(self._path) != self.inode:
            raise moved()

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, *parameters: Value) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(sql, rows)


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY == sqlite3.SQLITE_BUSY


_open: set[SQLiteConnection] = set()
_inherited: set[_Inode] = set()


def refuse_inherited(path: Path) -> None:
    """Raise StoreError in a process that was forked while its parent had the file open.

    SQLite remembers per process which locks it has on a file. In the child it believes to have those of its parent, so
    that even a new connection goes without them: what it commits is lost, or destroys the file. Closing what was
    inherited is no way out, because a transaction that was going on in the parent would be rolled back in memory that
    both share. https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    """
    if _inode(path) in _inherited:
        raise StoreError(
            f"the store {path} was open when this process was forked, and SQLite cannot open it here: "
            "open it after the fork, or start the process by spawning it"
        )


def _inherit() -> None:
    for connection in _open:
        connection.abandon()
    _open.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_inherit)


def _inode(path: Path | None) -> _Inode | None:
    if path is None:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116  # half the price of Path.stat, and once per transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


def moved() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the file was moved or deleted while it was in use")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    return error


def diagnose(error: Exception) -> Diagnosis:
    """Tell what an error means that came while a database was opened or used."""
    if isinstance(error, OSError):
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return Diagnosis(StorageFullError(_FULL) if full else UnavailableError(_UNREACHABLE), Remedy.NONE)
    if isinstance(error, AsgipipeError):
        return Diagnosis(error, Remedy.NONE)
    if not isinstance(error, sqlite3.Error):
        return Diagnosis(error, Remedy.APART)
    return _diagnose_code(error, getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR))


def _diagnose_code(error: sqlite3.Error, extended: int) -> Diagnosis:
    code = extended & _PRIMARY
    if extended == sqlite3.SQLITE_READONLY_DBMOVED:
        return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.AGAIN, replace=True)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Diagnosis(UnavailableError(_BUSY), Remedy.AGAIN)
    if code == sqlite3.SQLITE_FULL:
        return Diagnosis(StorageFullError(_FULL), Remedy.APART)
    if code in _BREAKING:
        return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.NONE, replace=True)
    return Diagnosis(error, Remedy.APART)
