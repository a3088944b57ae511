"""What is forgotten: jobs that ended long ago, with their events, and keys that have expired; a little at a time."""

from asgipipe.jobs.keys import unkey
from asgipipe.jobs.rows import locking
from asgipipe.stores.database import Transaction


def prune_keys(transaction: Transaction, before: float, limit: int) -> int:
    """Remove keys that expired before `before`; a job that one stood for is from then on subject to retention."""
    rows = transaction.rows(
        "SELECT deployment, caller, key, run_id FROM idempotency_keys"  # noqa: S608  # constants
        " WHERE status IS NOT NULL AND expires_at < ?"
        f" ORDER BY expires_at LIMIT ?{locking(transaction, skip=True)}",  # no input of anybody's
        before,
        limit,
    )
    for *place, run_id in rows:
        transaction.change("DELETE FROM idempotency_keys WHERE deployment = ? AND caller = ? AND key = ?", *place)
        unkey(transaction, str(run_id))
    return len(rows)


def prune_jobs(transaction: Transaction, deployment: str, before: float, limit: int) -> int:
    """Remove jobs that ended before `before`, at most `limit` rows with their events; return how many rows that were.

    A job to which an idempotency key leads is kept as long as the key. One with more events than the limit loses its
    oldest first, in several goes.
    """
    rows = transaction.rows(
        "SELECT id, first_event, last_event FROM jobs"  # noqa: S608  # constants
        " WHERE deployment = ? AND completed_at IS NOT NULL AND keyed = 0 AND completed_at < ?"
        f" ORDER BY completed_at LIMIT ?{locking(transaction, skip=True)}",  # no input of anybody's
        deployment,
        before,
        limit,
    )
    left = limit
    for job_id, first, last in rows:
        assert isinstance(job_id, str)
        assert isinstance(first, int)
        assert isinstance(last, int)
        if left <= 0:
            break
        if (events := last - first + 1) >= left:
            forget(transaction, job_id, first + left)
            transaction.change("UPDATE jobs SET first_event = ? WHERE id = ?", first + left, job_id)
            return limit
        forget(transaction, job_id, last + 1)
        transaction.change("DELETE FROM large_parameters WHERE job_id = ?", job_id)
        transaction.change("DELETE FROM jobs WHERE id = ?", job_id)
        left -= events + 1
    return limit - left


def forget(transaction: Transaction, job_id: str, kept: int) -> None:
    """Remove the events of a job before number `kept`."""
    transaction.change("DELETE FROM events WHERE job_id = ? AND id < ?", job_id, kept)
