"""What PostgreSQL's errors mean, by their codes: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

import psycopg

from asgipipe.errors import AsgipipeError, HTTPError, StorageFullError, UnavailableError
from asgipipe.stores.lane import Diagnosis, Remedy

_FULL = StorageFullError, "The server has no room left to keep this."
_BUSY = UnavailableError, "The store is busy; try again."
_UNREACHABLE = UnavailableError, "The store cannot be reached; the server's log says why."

_MEANINGS: tuple[tuple[str, tuple[type[HTTPError], str], Remedy, bool], ...] = (
    ("53100", _FULL, Remedy.APART, False),
    ("40", _BUSY, Remedy.AGAIN, False),  # deadlocks and serialization failures
    ("55P03", _BUSY, Remedy.APART, False),  # a lock was not to be had in time
    ("57014", _BUSY, Remedy.APART, False),  # a statement took too long
    ("08", _UNREACHABLE, Remedy.AGAIN, True),
    ("25006", _UNREACHABLE, Remedy.AGAIN, True),  # what was the primary is a standby now
    ("25P0", _UNREACHABLE, Remedy.AGAIN, True),  # this process stood still in a transaction, which was ended
    ("57", _UNREACHABLE, Remedy.AGAIN, True),  # shut down, crashed, not ready yet
    ("53", _UNREACHABLE, Remedy.APART, False),
    ("58", _UNREACHABLE, Remedy.APART, False),
    ("XX", _UNREACHABLE, Remedy.APART, False),
)
"""By the first characters of a code: what callers are told, what may help, and whether the connection is of no use."""


def diagnose(error: Exception) -> Diagnosis:
    """Tell what an error that came while the database was used means."""
    if isinstance(error, AsgipipeError):
        return Diagnosis(error, Remedy.NONE)
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return _diagnose_code(error, error.sqlstate)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):  # there is no connection
        return Diagnosis(_answer(_UNREACHABLE), Remedy.AGAIN, replace=True)
    return Diagnosis(error, Remedy.APART)


def _diagnose_code(error: psycopg.Error, code: str) -> Diagnosis:
    for start, answer, remedy, replace in _MEANINGS:
        if code.startswith(start):
            return Diagnosis(_answer(answer), remedy, replace)
    return Diagnosis(error, Remedy.APART)


def _answer(answer: tuple[type[HTTPError], str]) -> HTTPError:
    kind, detail = answer
    return kind(detail)
