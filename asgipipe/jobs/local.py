"""The jobs of a deployment, in this process and the store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from time import monotonic, time

from asgipipe.errors import NotFoundError, StorageFullError, StoreError, UnavailableError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.attempt import Envelopes, Invoke, Means
from asgipipe.jobs.cursors import job_before
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.jobs import BaseJobs, IdempotencyKey, Replay, Submission
from asgipipe.jobs.neighbours import Neighbours
from asgipipe.jobs.parameters import StoredParameters
from asgipipe.jobs.queue import load_queue
from asgipipe.jobs.records import Event, Job, JobOptions, JobPage
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore
from asgipipe.jobs.upkeep import forget_old
from asgipipe.jobs.worker import Worker
from asgipipe.pipelines.contract import Contract
from asgipipe.settings import DeploymentSettings
from asgipipe.stores.database import Database
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.tracking.records import timestamp

logger = logging.getLogger("asgipipe")

_LOOK = 0.5
"""Seconds between looks at whether the store exists."""
_FRESH = 2.0
"""Seconds for which a count of the jobs is good."""


@dataclass(slots=True)
class _Open:
    """What there is while the store is open; `number` is that of this process among its workers."""

    store: JobStore
    hub: Hub
    number: int
    worker: Worker | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def owner(self) -> int:
        return self.number if self.worker is None else self.worker.owner


class Jobs(BaseJobs):
    """Accepts jobs into the store and runs those that a queue brings; all on the event loop of the deployment.

    The store is opened at the start when it exists, else when something is to be written, or another process has made
    it. `database` is shared with others and closed by whoever made it. `on_begin` and `on_end` are called around each
    job that runs here. Raises DefinitionError for a `job_queue` that cannot be made.
    """

    def __init__(
        self,
        settings: DeploymentSettings,
        contract: Contract,
        database: LazyDatabase,
        *,
        deployment: str,
        invoke: Invoke,
        cancel: Callable[[str, str], bool],
        envelopes: Envelopes,
        clock: Callable[[], float] = time,
    ) -> None:
        self.on_begin: Callable[[], object] = _nothing
        self.on_end: Callable[[], object] = _nothing
        self._settings = settings
        self._contract = contract
        self._parameters = StoredParameters(contract)
        self._database = database
        self._deployment = deployment
        self._invoke = invoke
        self._cancel = cancel
        self._envelopes = envelopes
        self._clock = clock
        self._queue = load_queue(settings.job_queue, settings.store_url, settings.job_queue_kwargs)
        self._started = self._draining = False
        self._grace_ends = 0.0
        self._context: Context | None = None
        self._open: _Open | None = None
        self._opening: asyncio.Task[_Open] | None = None
        self._awaiting: asyncio.Task[None] | None = None
        self._counted: tuple[float, dict[JobState, int]] | None = None

    # Jobs

    async def submit(self, submission: Submission, key: IdempotencyKey | None = None) -> Job | Replay:
        if self._draining:
            raise UnavailableError("The server is draining.")
        there = await self._there()
        settings = self._settings
        accepted = await there.store.insert(
            self._pending(submission), limit=settings.max_pending_jobs, key=key, ttl=settings.idempotency_ttl
        )
        if isinstance(accepted, Job):
            self._queue.pending(accepted.due_at)
        return accepted

    def _pending(self, submission: Submission) -> Job:
        settings, now, name = self._settings, self._clock(), self._contract.name
        given = submission.max_attempts, submission.retries
        options = JobOptions(
            timeout=submission.timeout,
            max_attempts=settings.job_max_attempts if given[0] is None else given[0],
            retries=settings.job_retries if given[1] is None else given[1],
            capture=submission.capture,
        )
        return Job.pending(
            id=uuid7(),
            deployment=self._deployment,
            pipeline=name,
            run_name=submission.run_name or f"{name}-{timestamp(now)}",
            priority=submission.priority,
            due_at=now + submission.delay,
            created_at=now,
            parameters=self._parameters.dump(submission.parameters),
            options=options.dump(),
        )

    async def get(self, job_id: str) -> Job | None:
        there = await self._existing()
        return None if there is None else await there.store.get(job_id)

    async def list(self, *, state: JobState | None = None, limit: int = 50, cursor: str | None = None) -> JobPage:
        there = await self._existing()
        if there is not None:
            return await there.store.page(state, limit, cursor)
        if cursor is not None:
            job_before(cursor)
        return JobPage((), 0, None)

    async def counts(self) -> dict[JobState, int]:
        now = monotonic()
        if self._counted is None or now - self._counted[0] >= _FRESH:
            there = await self._existing()
            counts = dict.fromkeys(JobState, 0) if there is None else await there.store.counts()
            self._counted = now, counts
        return dict(self._counted[1])

    async def cancel(self, job_id: str, *, reason: str | None = None, by: str | None = None) -> Job:
        there = await self._existing()
        if there is None:
            raise NotFoundError("There is no such job.")
        job = await there.store.request_cancel(job_id, reason=reason, by=by, envelope=self._envelopes.unfinished)
        if job.state is JobState.RUNNING and there.worker is not None:
            there.worker.cancel(job_id, job.cancel_reason)
        there.hub.ended_here(job_id)  # what others wrote of it is in the store, and only there
        return job

    async def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[tuple[Event, ...], None]:
        there = await self._existing()
        if there is None:
            raise NotFoundError("There is no such job.")
        if self._draining and not (there.worker is not None and there.worker.runs(job_id)):
            raise UnavailableError("The server is draining.")
        async with aclosing(there.hub.follow(job_id, after)) as groups:
            async for events in groups:
                yield events

    # Idempotency keys of sync runs

    async def reserve(self, key: IdempotencyKey, run_id: str) -> Replay | None:
        there = await self._there()
        return await there.store.reserve(key, run_id, owner=there.owner, ttl=self._settings.idempotency_ttl)

    async def answer(self, key: IdempotencyKey, run_id: str, status: int, body: bytes) -> None:
        there = await self._there()
        await there.store.answer(key, run_id, status=status, body=body)

    async def release(self, key: IdempotencyKey, run_id: str) -> None:
        there = await self._there()
        await there.store.release(key, run_id)

    # Life

    async def start(self) -> None:
        """Raises StoreError when there is a store that cannot be used; one that cannot be reached is tried again."""
        self._started = True
        self._context = copy_context()
        if self._settings.run_jobs:
            if not await self._try():
                self._awaiting = asyncio.create_task(self._await_store(), name="asgipipe-jobs-store")
        elif self._database.database.exists():
            await self._try()

    async def drain(self) -> None:
        """Take no more jobs; before the start, that is said of the life which then begins."""
        if self._draining:
            return
        self._draining = True
        self._grace_ends = monotonic() + self._settings.drain_timeout
        there = self._open
        if there is None:
            return
        here: Callable[[str], bool] = lambda _: False  # noqa: E731
        if there.worker is not None:
            there.worker.drain()
            await self._queue.drain()
            here = there.worker.runs
        there.hub.close([job_id for job_id in there.hub.followed if not here(job_id)])

    async def hand_back(self) -> None:
        """Hand back the jobs that still run and cancel their runs: the time that they had to finish is over."""
        if self._started:
            await self.drain()
        if self._open is not None and self._open.worker is not None:
            await self._open.worker.hand_back()

    async def stop(self) -> None:
        await self.drain()
        self._started = False
        await _end([task for task in (self._awaiting, self._opening) if task is not None])
        self._awaiting = self._opening = None
        if self._open is not None:
            await self._close(self._open)
        self._draining = False

    async def _close(self, there: _Open) -> None:
        if there.worker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._grace_ends - monotonic())):
                    await there.worker.finished()
            await there.worker.stop()
        self._open = None  # not before: while it waits, the grace may end, and `hand_back` be called
        await _end(there.tasks)
        there.hub.close()
        await self._queue.stop()

    # The store

    async def _existing(self) -> _Open | None:
        """Return what there is once the store is open; None when there is no store yet."""
        if self._open is not None:
            return self._open
        return await self._there() if self._database.database.exists() else None

    async def _there(self) -> _Open:
        try:
            return await self._opened()
        except StoreError as error:
            logger.error("%s", error)
            raise UnavailableError("The store of the jobs cannot be used; the server's log says why.") from None

    async def _opened(self) -> _Open:
        """Open the store, once for all that ask at the same time; the next one to ask tries again what failed."""
        if self._open is not None:
            return self._open
        if not self._started:
            raise UnavailableError("The deployment is not running.")
        if self._opening is None or self._opening.done():
            # Jobs have nothing of the request that happens to be the first one to need the store.
            self._opening = asyncio.create_task(self._make(), name="asgipipe-jobs-open", context=self._context)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if opening.cancelled() and caller is not None and not caller.cancelling():  # `stop` has ended it
                raise UnavailableError("The deployment is not running.") from None
            raise

    async def _make(self) -> _Open:
        settings, database = self._settings, await self._database.open()
        await self._queue.open(database)
        store = JobStore(
            database,
            self._deployment,
            clock=self._clock,
            on_pending=self._queue.on_pending,
            max_events=settings.max_job_events,
        )
        there = _Open(store, Hub(store, database, capacity=settings.subscriber_queue), await database.register())
        try:
            if settings.run_jobs and not self._draining:
                await self._begin_work(there)
        except BaseException:
            await _end(there.tasks)
            await self._queue.stop()
            raise
        there.tasks.append(_background(forget_old(store, settings.job_retention), "upkeep"))
        if there.worker is None:
            there.tasks.append(_background(_stay_known(there, database), "known"))
        elif self._draining:  # since a moment: the queue began while nothing was open yet
            there.worker.drain()
            await self._queue.drain()
        self._open = there
        return there

    async def _begin_work(self, there: _Open) -> None:
        database, settings = self._database.database, self._settings
        means = Means(
            there.store,
            there.hub,
            self._invoke,
            self._cancel,
            self._envelopes,
            self._parameters.load,
            self._queue.pending,
            settings.job_retry_delay,
            settings.job_resume,
            settings.error_messages,
            self._clock,
        )
        worker = there.worker = Worker(
            database,
            there.owner,
            means,
            concurrency=settings.job_concurrency,
            on_begin=self.on_begin,
            on_end=self.on_end,
        )
        neighbours = Neighbours(
            database, there.store, worker, self._envelopes.unfinished, lambda jobs: self._taken_over(there, jobs)
        )
        await self._queue.start(worker)
        there.tasks.append(_background(neighbours.watch(), "neighbours"))

    def _taken_over(self, there: _Open, jobs: Iterable[Job]) -> None:
        for job in jobs:
            there.hub.ended_here(job.id)
            if job.state is JobState.PENDING:
                self._queue.pending(job.due_at)

    async def _try(self) -> bool:
        """Open the store if there is one; return whether it is open."""
        if not self._database.database.exists():
            return False
        try:
            await self._opened()
        except (UnavailableError, StorageFullError) as error:
            logger.warning(
                "the store %s cannot be opened, which is tried again: %s", self._database.database.place, error
            )
            return False
        return True

    async def _await_store(self) -> None:
        """Open the store as soon as somebody has made it."""
        while self._open is None:
            await asyncio.sleep(_LOOK)
            try:
                await self._try()
            except StoreError as error:
                logger.error("no jobs are run: %s", error)
                return


async def _stay_known(there: _Open, database: Database) -> None:
    """Take a new number when the old one was declared dead: what a dead process reserves, others may take.

    Where jobs run, `Neighbours` sees to that.
    """
    while True:
        await asyncio.sleep(_LOOK)
        with contextlib.suppress(UnavailableError, StorageFullError):
            if await database.dead({there.number}):
                there.number = await database.register()


def _background(work: Coroutine[object, object, None], name: str) -> "asyncio.Task[None]":
    return asyncio.create_task(work, name=f"asgipipe-jobs-{name}")


async def _end(tasks: "Sequence[asyncio.Task[None] | asyncio.Task[_Open]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _nothing() -> None:
    """Nobody counts."""
