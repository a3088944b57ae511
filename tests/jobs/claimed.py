"""Jobs that were claimed, in a store in memory, for what records and follows them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time

from asgipipe.identifiers import uuid7
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.records import Event, Job
from asgipipe.jobs.store import JobStore
from asgipipe.stores.database import Database
from asgipipe.stores.registry import database

DEPLOYMENT = "deployment"


@dataclass
class Bench:
    """A store, a hub on it, and the number of a worker."""

    database: Database
    store: JobStore
    hub: Hub
    worker: int

    async def submitted(self) -> Job:
        job_id = uuid7()
        now = time()
        job = Job.pending(
            id=job_id,
            deployment=DEPLOYMENT,
            pipeline="target",
            run_name="run",
            due_at=now,
            created_at=now,
            parameters=b"{}",
            options=b"{}",
        )
        inserted = await self.store.insert(job, limit=1000, key=None, ttl=60.0)
        assert isinstance(inserted, Job)
        return inserted

    async def claimed(self) -> Job:
        job = await self.submitted()
        claimed = await self.store.claim_one(self.worker, job.id)
        assert claimed is not None
        return claimed

    async def stored(self, job_id: str) -> list[Event]:
        page = await self.store.events(job_id, 0, 1_000_000)
        assert page is not None
        return list(page.events)


@asynccontextmanager
async def bench(*, capacity: int = 1000, max_events: int = 1_000_000, look: float = 0.02) -> AsyncIterator[Bench]:
    """A store in memory; its followers look every 20 ms for what was written past the hub."""
    opened = database("memory:")
    await opened.open()
    store = JobStore(opened, DEPLOYMENT, max_events=max_events)
    hub = Hub(store, opened, capacity=capacity, look=look)
    try:
        yield Bench(opened, store, hub, await opened.register())
    finally:
        hub.close()
        await opened.close()
