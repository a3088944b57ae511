"""What PgQueuer does to its tables, with what a delivery of ours needs otherwise."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Container
from datetime import timedelta

import psycopg
from pgqueuer import Queries
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.models import Job, TracebackRecord
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.types import JOB_STATUS, JobId, QueueEntrypoint, QueueManagerId

from asgipipe.jobs.postgres.deliveries import SETTINGS
from asgipipe.jobs.postgres.link import Driver, Link
from asgipipe.stores.postgresql import Limits

logger = logging.getLogger("asgipipe")


class Tables(Queries):
    """PgQueuer's tables under our names."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(
            driver, QueryBuilderEnvironment(SETTINGS), QueryQueueBuilder(SETTINGS), QuerySchedulerBuilder(SETTINGS)
        )


class Repository(Tables):
    """Picks rows only when there is room for them; `picked` are the ids of those that were and are not settled.

    `room` waits until some can be picked and returns how many, or 0 at the end. Nothing that fails here is logged by
    PgQueuer, nor taken for the end of a delivery: the connection is lost then, and what was picked is delivered again.
    """

    def __init__(self, driver: Driver, picked: set[int], room: Callable[[], Awaitable[int]]) -> None:
        super().__init__(driver)
        self.dispatched: Container[JobId] = ()
        """The rows whose handlers have not ended; PgQueuer passes by one of them that it has picked once more."""
        self._changes = driver
        self._picked = picked
        self._room = room

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        room = await self._room()
        if not room:
            return []
        self._changes.looking()
        size = min(batch_size, room)
        rows = await super().dequeue(size, entrypoints, queue_manager_id, global_concurrency_limit, heartbeat_timeout)
        self._picked.update(row.id for row in rows if row.id not in self.dispatched)
        return rows

    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        # A handler that was cancelled, or has failed, has settled nothing.
        settled = [entry for entry in job_status if entry[1] == "successful"]
        if settled:
            with contextlib.suppress(psycopg.Error):
                await super().log_jobs(settled)

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        with contextlib.suppress(psycopg.Error):
            await super().retry_job(job, delay, None)

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        with contextlib.suppress(psycopg.Error):
            await super().update_heartbeat(job_ids)


async def install(url: str, limits: Limits) -> None:
    """Bring PgQueuer's tables up to date by its own statements; raises psycopg's errors."""
    link = await Link.to(url, limits)
    try:
        tables = Tables(Driver(link))
        if not (await tables.plan_upgrade()).statements:
            return
        link.patience = limits.migration
        limit = f"{limits.migration:g}s"
        await link.execute(
            "SELECT set_config(name, %s, false) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')",
            [limit],
        )
        await tables.apply_upgrade()  # one process at a time: it takes a lock of its own
    finally:
        await link.close()
