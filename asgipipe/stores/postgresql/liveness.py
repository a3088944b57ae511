"""Which workers live: those with a row whose sign of life is not too old, by the clock of the database.

A worker is dead once its row is gone. Whoever finds its sign of life too old deletes the row, under the same lock under
which the worker renews it: so nobody is found dead and goes on nevertheless.
"""

from collections.abc import Collection

from asgipipe.stores.database import Row, Transaction


def insert(transaction: Transaction, host: str, pid: int, lifetime: float) -> int:
    """Make a worker known, and return its number; numbers are never given twice."""
    transaction.change("DELETE FROM workers WHERE seen_at <= extract(epoch FROM clock_timestamp()) - ?", lifetime)
    rows = transaction.rows(
        "INSERT INTO workers (host, pid, started_at, seen_at)"
        " SELECT ?, ?, now, now FROM extract(epoch FROM clock_timestamp()) AS now RETURNING id",
        host,
        pid,
    )
    (number,) = _numbers(rows)
    return number


def renew(transaction: Transaction, workers: Collection[int], lifetime: float) -> set[int]:
    """Give a sign of life; return those of `workers` for which it came in time."""
    rows = transaction.rows(
        "UPDATE workers SET seen_at = extract(epoch FROM clock_timestamp())"
        " WHERE id = ANY (string_to_array(?, ',')::int8[])"
        " AND seen_at > extract(epoch FROM clock_timestamp()) - ? RETURNING id",
        _listed(workers),
        lifetime,
    )
    return _numbers(rows)


def living(transaction: Transaction, workers: Collection[int], lifetime: float) -> set[int]:
    rows = transaction.rows(
        "SELECT id FROM workers WHERE id = ANY (string_to_array(?, ',')::int8[])"
        " AND seen_at > extract(epoch FROM clock_timestamp()) - ?",
        _listed(workers),
        lifetime,
    )
    return _numbers(rows)


def bury(transaction: Transaction, workers: Collection[int], lifetime: float) -> set[int]:
    """Return those of `workers` that are dead, and remain so from here on."""
    transaction.change(
        "DELETE FROM workers WHERE id = ANY (string_to_array(?, ',')::int8[])"
        " AND seen_at <= extract(epoch FROM clock_timestamp()) - ?",
        _listed(workers),
        lifetime,
    )
    rows = transaction.rows("SELECT id FROM workers WHERE id = ANY (string_to_array(?, ',')::int8[])", _listed(workers))
    return set(workers) - _numbers(rows)


def remove(transaction: Transaction, workers: Collection[int]) -> None:
    """Tell that workers have ended."""
    transaction.change("DELETE FROM workers WHERE id = ANY (string_to_array(?, ',')::int8[])", _listed(workers))


def _listed(workers: Collection[int]) -> str:
    return ",".join(map(str, workers))


def _numbers(rows: list[Row]) -> set[int]:
    return {number for (number,) in rows if isinstance(number, int)}
