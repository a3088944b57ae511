"""The rows by which PgQueuer delivers jobs: one for each time that a job became pending.

A row names its job and the number of attempts that the job has had. So it is known to be settled once the job has
ended, or was begun again, whoever did that: a row that is delivered twice, or late, does nothing.
"""

import re
from dataclasses import dataclass

from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.types import Channel

from asgipipe.stores.database import Transaction

# All of it is given, because PgQueuer takes what is not from variables of the host's, such as CHANNEL.
SETTINGS = DBSettings(
    prefix="asgipipe_",
    db_schema=None,  # as the tables of the store: the first of the search path
    channel=Channel("asgipipe_ch_pgqueuer"),
    function="asgipipe_fn_pgqueuer_changed",
    statistics_table="asgipipe_pgqueuer_statistics",
    queue_status_type="asgipipe_pgqueuer_status",
    queue_table="asgipipe_pgqueuer",
    queue_table_log="asgipipe_pgqueuer_log",
    trigger="asgipipe_tg_pgqueuer_changed",
    schedules_table="asgipipe_pgqueuer_schedules",
    durability=Durability.balanced,  # nobody misses its log after a crash
    widen_id=True,
)

_HIGHEST = 2**31 - 1
"""PgQueuer's priorities have four bytes."""


# What takes the place of PgQueuer's parameters: priority, entrypoint, payload, execute_after, dedupe_key and headers,
# each a list.
_SOURCES = (
    "ARRAY[?]",
    "ARRAY(SELECT deployment FROM jobs WHERE id = ?)",
    "ARRAY(SELECT convert_to(id || ' ' || attempt, 'UTF8') FROM jobs WHERE id = ?)",
    "ARRAY[make_interval(secs => ?) + (clock_timestamp() - now())]",  # the transaction may have begun a while ago
    "ARRAY(SELECT id || ' ' || attempt FROM jobs WHERE id = ?)",
    "ARRAY['{}']",
)


def _insertion() -> str:
    """Return PgQueuer's own statement that adds a delivery unless it is there, in the words of a Transaction."""
    uncommented = re.sub(r"--.*", "", QueryQueueBuilder(SETTINGS).build_enqueue_query("skip"))
    return re.sub(r"\$(\d+)", lambda found: _SOURCES[int(found[1]) - 1], uncommented)


_INSERTION = _insertion()

_LOST = f"""
SELECT id, priority FROM jobs
WHERE deployment = ? AND state = 'pending' AND due_at <= ? AND NOT EXISTS (
    SELECT FROM {SETTINGS.queue_table}
    WHERE dedupe_key = jobs.id || ' ' || jobs.attempt AND status IN ('queued', 'picked')
)
ORDER BY priority DESC, id LIMIT ?
"""  # noqa: S608  # a constant

_FORGETTING = f"""
DELETE FROM {SETTINGS.queue_table_log} WHERE id IN (
    SELECT id FROM {SETTINGS.queue_table_log} ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED
)
"""  # noqa: S608  # a constant

CHUNK = 1000
"""Rows that one transaction sees to: what takes long keeps others waiting."""


def add(transaction: Transaction, job_id: str, priority: int, delay: float) -> None:
    """Add the delivery of a pending job, due in `delay` seconds, unless it has one already."""
    priority = max(-_HIGHEST, min(priority, _HIGHEST))
    transaction.tell(_INSERTION, priority, job_id, job_id, max(delay, 0.0), job_id)


def any_lost(transaction: Transaction, deployment: str, now: float) -> bool:
    """Tell whether there are due jobs that have no delivery.

    That is what another queue was to deliver before the setting was changed, or what somebody has deleted.
    """
    return transaction.row(_LOST, deployment, now, 1) is not None


def add_lost(transaction: Transaction, deployment: str, now: float) -> int:
    """Add deliveries for due jobs that have none, and return how many: CHUNK at most."""
    rows = transaction.rows(f"{_LOST} FOR UPDATE SKIP LOCKED", deployment, now, CHUNK)
    for job_id, priority in rows:
        assert isinstance(job_id, str)
        assert isinstance(priority, int)
        add(transaction, job_id, priority, 0.0)
    return len(rows)


def forget_log(transaction: Transaction) -> int:
    """Remove rows of PgQueuer's log, which it keeps for ever, and return how many."""
    return transaction.change(_FORGETTING, CHUNK)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a row delivers: a job, when it has had so many attempts."""

    job_id: str
    attempt: int

    @classmethod
    def of(cls, payload: bytes | None) -> "Delivery":
        """Read what a row says; one of somebody else's delivers nothing."""
        job_id, _, attempt = (payload or b"").decode(errors="replace").partition(" ")
        return cls(job_id, int(attempt) if attempt.isdecimal() else -1)

    def due_at(self, transaction: Transaction) -> float | None:
        """Return when the job is due, which may be past; None when the delivery is settled."""
        row = transaction.row(
            "SELECT due_at FROM jobs WHERE id = ? AND attempt = ? AND state = 'pending'", self.job_id, self.attempt
        )
        return None if row is None else float(row[0] or 0)
