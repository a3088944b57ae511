"""The jobs in a store, whether or not a server runs."""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar, cast

from pydantic_core import from_json

from asgipipe.cli.job_source import CANDIDATES, Audience, JobSource, Json
from asgipipe.deployers.identity import actor
from asgipipe.errors import HTTPError, StorageFullError, UnavailableError, UserError
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.reader import JobReader
from asgipipe.jobs.records import Event, Job, JobPage
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.service.deployment import DeploymentResponse
from asgipipe.service.envelope import EnvelopeWriter
from asgipipe.settings.stores import MEMORY
from asgipipe.stores.database import Database
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.stores.registry import database

T = TypeVar("T")

_HELD = 1000
"""Events that are held for whoever follows a job."""


class StoredJobs(JobSource):
    """`deployment` is the name of the one to look at; None is all that share the store."""

    def __init__(self, store_url: str | None, deployment: str | None) -> None:
        if store_url == MEMORY:
            raise UserError("the store is the memory of another process (store_url is memory:); ask it by --url")
        self._lazy = LazyDatabase(partial(database, store_url))
        self._deployment = deployment
        self._runner = asyncio.Runner()

    @property
    def nothing(self) -> str:
        place = self._lazy.database
        return f"No jobs in {place.place}." if place.exists() else f"No jobs: there is no store at {place.place}."

    def page(self, statuses: Sequence[str], limit: int, cursor: str | None) -> Json:
        page = self._run(self._page([JobState(status) for status in statuses], limit, cursor))
        jobs = [_members(job) for job in page.jobs]
        return {"jobs": jobs, "total": page.total, "next_cursor": page.next_cursor}

    def beginning(self, prefix: str) -> Sequence[Json]:
        return [_members(job) for job in self._run(self._beginning(prefix))]

    def cancel(self, job_id: str, reason: str | None) -> Json:
        job = self._run(self._cancel(job_id, reason))
        return {"job_id": job.id, "status": job.state.value}

    def follow(self, job_id: str, audience: Audience) -> None:
        self._run(self._follow(job_id, audience))

    def close(self) -> None:
        self._run(self._lazy.close())
        self._runner.close()

    async def _page(self, states: Sequence[JobState], limit: int, cursor: str | None) -> JobPage:
        existing = await self._lazy.open_existing()
        if existing is None:
            return JobPage((), 0, None)
        return await JobReader(existing, self._deployment).page(states, limit=limit, cursor=cursor)

    async def _beginning(self, prefix: str) -> list[Job]:
        return await JobReader(await self._open(), self._deployment).beginning(prefix, CANDIDATES + 1)

    async def _cancel(self, job_id: str, reason: str | None) -> Job:
        existing = await self._open()
        (job,) = await JobReader(existing, self._deployment).beginning(job_id, 1)
        store = JobStore(existing, job.deployment)
        ended = next(iter((await store.page(JobState.COMPLETED, 1, None)).jobs), None)
        writer = EnvelopeWriter(_deployment_of(job, self._deployment, ended), error_messages=True)
        return await store.request_cancel(job_id, reason=reason, by=actor(), envelope=writer.unfinished)

    async def _follow(self, job_id: str, audience: Audience) -> None:
        existing = await self._open()
        (job,) = await JobReader(existing, self._deployment).beginning(job_id, 1)
        hub = Hub(JobStore(existing, job.deployment), existing, capacity=_HELD)
        async with aclosing(hub.follow(job_id)) as groups:
            async for events in groups:
                for event in events:
                    audience.event(_event(event))

    async def _open(self) -> Database:
        existing = await self._lazy.open_existing()
        if existing is None:
            raise UserError(f"there is no store at {self._lazy.database.place}: give --store, or --url")
        return existing

    def _run(self, work: Coroutine[object, object, T]) -> T:
        try:
            return self._runner.run(work)
        except (UnavailableError, StorageFullError) as error:
            raise UserError(f"{self._lazy.database.place}: {error.detail}") from None
        except HTTPError as error:
            raise UserError(error.detail) from None


def _members(job: Job) -> Json:
    return cast("Json", json.loads(job.as_json()))


def _event(event: Event) -> Json:
    return cast("Json", json.loads(event.as_json()))


def _deployment_of(job: Job, name: str | None, ended: Job | None) -> DeploymentResponse:
    """Return what the envelope of a job that nobody runs says about its deployment.

    The store holds no names: they are read from the envelope of `ended`, another job. Where there is none, the name is
    the one asked for, or that which a deployment of the pipeline has by default, and the snapshot stays empty.
    """
    known: Mapping[str, str | None] = {}
    if ended is not None and ended.result is not None and ended.pipeline == job.pipeline:
        known = from_json(ended.result)["metadata"]
    return DeploymentResponse(
        id=job.deployment,
        name=known.get("deployment_name") or name or job.pipeline,
        snapshot_id=known.get("snapshot_id") or "",
        snapshot_name=known.get("snapshot_name"),
        pipeline_name=job.pipeline,
        auth_enabled=False,
    )
