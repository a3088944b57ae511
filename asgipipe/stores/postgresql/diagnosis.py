"""What PostgreSQL's errors mean. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

import psycopg
from psycopg import errors

from asgipipe.errors import AsgipipeError, StorageFullError, UnavailableError
from asgipipe.stores.lane import Diagnosis, Remedy

_FULL = "The server has no room left to keep this."
_BUSY = "The store is busy; try again."
_UNREACHABLE = "The store cannot be reached; the server's log says why."

_LOST = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.DatabaseDropped,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
    errors.ReadOnlySqlTransaction,  # the primary has become a standby
    errors.TooManyConnections,
)
"""After these the connection is of no use, and a new one may be."""

_SLOW = (errors.LockNotAvailable, errors.QueryCanceled)


def diagnose(error: Exception) -> Diagnosis:
    """Tell what an error that came while the database was used means."""
    if isinstance(error, AsgipipeError):
        return Diagnosis(error, Remedy.NONE)
    if not isinstance(error, psycopg.Error):
        return Diagnosis(error, Remedy.APART)
    if isinstance(error, errors.DiskFull):
        return Diagnosis(StorageFullError(_FULL), Remedy.APART)
    if error.sqlstate is None or isinstance(error, _LOST):
        return _without_server(error)
    if isinstance(error, (errors.SerializationFailure, errors.DeadlockDetected)):
        return Diagnosis(UnavailableError(_BUSY), Remedy.AGAIN)
    if isinstance(error, _SLOW):
        return Diagnosis(UnavailableError(_BUSY), Remedy.APART)
    if isinstance(error, (psycopg.OperationalError, psycopg.InternalError)):
        return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.AGAIN, replace=True)
    return Diagnosis(error, Remedy.APART)


def _without_server(error: psycopg.Error) -> Diagnosis:
    if error.sqlstate is None and not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Diagnosis(error, Remedy.APART)  # psycopg itself refuses what an operation says
    return Diagnosis(UnavailableError(_UNREACHABLE), Remedy.AGAIN, replace=True)
