"""A connection to SQLite, and what its errors mean."""

import errno
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from asgipipe.errors import AsgipipeError, StorageFullError, UnavailableError
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


class SQLiteConnection(Connection):
    """A connection on which nothing is begun unless `begin` was called.

    `path` is the file that it was opened on: once another one, or none, has that name, `begin` refuses, because what is
    committed to a file without a name is lost.
    """

    def __init__(self, connection: sqlite3.Connection, begin: str, path: Path | None) -> None:
        self._connection = connection
        self._begin = begin
        self._path = path
        self._inode = _inode(path)

    def begin(self) -> None:
        if _inode(self._path) != self._inode:
            raise moved()
        self._connection.execute(self._begin)

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:  # some errors have undone it already
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        if _inode(self._path) != self._inode:
            # Closing deletes the log by its name, which may be that of another database by now:
            # https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use
            _abandoned.append(self._connection)
            return
        self._connection.close()

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, *parameters: Value) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(sql, rows)


_abandoned: list[sqlite3.Connection] = []


def _inode(path: Path | None) -> tuple[int, int] | None:
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
    code = extended & 0xFF  # https://www.sqlite.org/rescode.html: the primary code; the others say where it came from
    if extended == sqlite3.SQLITE_READONLY_DBMOVED:
        return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.AGAIN, replace=True)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Diagnosis(UnavailableError(_BUSY), Remedy.AGAIN)
    if code == sqlite3.SQLITE_FULL:
        return Diagnosis(StorageFullError(_FULL), Remedy.APART)
    if code in _BREAKING:
        return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.NONE, replace=True)
    return Diagnosis(error, Remedy.APART)
