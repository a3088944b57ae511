"""Runs the jobs that a queue brings, so many at once; what becomes of one is the business of its attempt."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.jobs.attempt import Attempt, Means
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import StaleAttemptError
from asgipipe.pipelines.context import wake
from asgipipe.stores.database import Database

logger = logging.getLogger("asgipipe")

_HAND_BACK_TIME = 0.25
"""Seconds that the store has to take back the jobs that still run when the process stops."""
_LAST_WORDS = 0.1
"""Seconds that cancelled runs have to end by themselves, and then once more to end when their tasks are cancelled."""

_Key = tuple[str, int]
"""A job's id, and the number of the attempt."""


class Worker:
    """One worker of the deployment, known in the store by the number `owner`; used on the event loop.

    `on_begin` and `on_end` are called around each job. A place is free again when the threads of its run have really
    ended, so that runs which were given up cannot pile up behind jobs that look ended.
    """

    def __init__(
        self,
        database: Database,
        owner: int,
        means: Means,
        *,
        concurrency: int,
        on_begin: Callable[[], object],
        on_end: Callable[[], object],
    ) -> None:
        self.database = database
        self.owner = owner
        self.concurrency = concurrency
        self.draining = False
        self._means = means
        self._on_begin = on_begin
        self._on_end = on_end
        # A job may have two attempts here: one that has lost it, and does not know that yet, and the one after.
        self._attempts: dict[_Key, Attempt] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._left_behind = 0
        self._claiming = 0
        self._unsure = False
        self._adopting = asyncio.Lock()
        self._known: set[_Key] = set()
        self._waiting: list[asyncio.Future[None]] = []

    # For the queue

    @property
    def deployment(self) -> str:
        return self._means.store.deployment

    @property
    def room(self) -> int:
        if self.draining:
            return 0
        return max(0, self.concurrency - len(self._tasks) - self._left_behind - self._claiming)

    async def has_room(self) -> bool:
        while not self.room and not self.draining:
            await self._change()
        return not self.draining

    async def take(self) -> int:
        begun = await self._settle()
        room = self.room
        if not room:
            return begun
        with self._claim(room):
            jobs = await self._means.store.claim(self.owner, room)
        return begun + await self._begin(jobs)

    async def run(self, job_id: str) -> bool:
        await self._settle()
        job = None
        if await self.has_room():
            with self._claim(1):
                job = await self._means.store.claim_one(self.owner, job_id)
            await self._begin([] if job is None else [job])
        tasks = [task for (each, _), task in self._tasks.items() if each == job_id]
        if tasks:
            await asyncio.wait(tasks)
        return job is not None

    async def next_due(self) -> float | None:
        return await self._means.store.next_due()

    # Other processes

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def runs(self, job_id: str) -> bool:
        return any(each == job_id for each, _ in self._tasks)

    def cancel(self, job_id: str, reason: str | None) -> None:
        """Cancel a job, if it runs here."""
        for attempt in self._of(job_id):
            attempt.cancel(reason)

    async def look_for_cancels(self) -> None:
        """Cancel the jobs for which another process has asked it."""
        for job_id, reason in await self._means.store.cancel_requests(self.owner):
            self.cancel(job_id, reason)

    def disown(self, owner: int) -> None:
        """Go on as another worker: the old number was declared dead, and its jobs belong to others."""
        for attempt in tuple(self._attempts.values()):
            attempt.abandon()
        self.owner = owner

    # Life

    def drain(self) -> None:
        """Begin no more jobs."""
        self.draining = True
        self._tell()

    async def finished(self) -> None:
        """Return when no job runs."""
        while self._tasks:
            await self._change()

    async def hand_back(self) -> None:
        """Hand back every job that runs, and cancel its run; what cannot be handed back is taken over by others."""
        self.drain()
        attempts = tuple(self._attempts.values())
        try:
            async with asyncio.timeout(_HAND_BACK_TIME):
                await asyncio.gather(*(attempt.hand_back() for attempt in attempts))
        except TimeoutError:
            logger.warning("the store did not take back in time some of the jobs that ran here")
        finally:
            self._means.hub.close([attempt.job.id for attempt in attempts])

    async def stop(self) -> None:
        """Hand back what runs, give the runs a moment to end, and leave behind what does not."""
        await self.hand_back()
        tasks = tuple(self._tasks.values())
        for last in (False, True):
            if tasks:
                await asyncio.wait(tasks, timeout=_LAST_WORDS)
            for task in () if last else tasks:
                task.cancel()
        with contextlib.suppress(UnavailableError, StorageFullError, TimeoutError):
            async with asyncio.timeout(_HAND_BACK_TIME):
                await self._return(await self._means.store.owned(self.owner))

    # Claims

    @contextlib.contextmanager
    def _claim(self, count: int) -> Iterator[None]:
        """Keep places for jobs that are being claimed; when that fails, nobody knows whether they were."""
        self._claiming += count
        try:
            yield
        except BaseException:
            self._unsure = True
            raise
        finally:
            self._claiming -= count

    async def _settle(self) -> int:
        """Begin what claims of unknown outcome have claimed, if there were any."""
        return await self.adopt() if self._unsure else 0

    async def adopt(self) -> int:
        """Begin the jobs that run here, as the store says, and do not, and return how many those were.

        Such jobs come of claims whose outcome is unknown. Nobody else takes them over, because this worker lives.
        """
        async with self._adopting:
            # What is begun, or ends, while the store is asked must not be begun once more.
            self._known = set(self._tasks)
            # Before the store is asked: what is claimed from here on, it may not see yet.
            self._unsure = False
            try:
                jobs = await self._means.store.owned(self.owner)
            except BaseException:
                self._unsure = True
                raise
            return await self._begin([job for job in jobs if _key(job) not in self._known])

    async def _begin(self, jobs: Sequence[Job]) -> int:
        if self.draining:
            await self._return(jobs)
            return 0
        fresh = [job for job in jobs if _key(job) not in self._tasks]
        for job in fresh:
            for stale in self._of(job.id):
                stale.abandon()
            attempt = self._attempts[_key(job)] = Attempt(job, self._means)
            self._on_begin()
            self._tasks[_key(job)] = asyncio.create_task(self._execute(attempt), name=f"asgipipe-job-{job.id}")
            if self._adopting.locked():
                self._known.add(_key(job))
        return len(fresh)

    def _of(self, job_id: str) -> list[Attempt]:
        return [attempt for (each, _), attempt in self._attempts.items() if each == job_id]

    async def _execute(self, attempt: Attempt) -> None:
        try:
            await attempt.execute()
        except Exception:  # boundary: a mistake of ours; the worker goes on
            logger.exception("job %s: attempt %d went wrong", attempt.job.id, attempt.job.attempt)
            await self._give_up(attempt.job)
        finally:
            self._end(attempt)

    async def _give_up(self, job: Job) -> None:
        """Treat a job as one whose worker was lost."""
        try:
            lost = await self._means.store.lose(job.id, job.attempt, self._means.envelopes.unfinished)
        except StaleAttemptError:
            logger.debug("job %s had ended", job.id)
        except Exception:  # boundary: it is found again as one that does not run though it should
            logger.exception("job %s cannot be given up now", job.id)
        else:
            self._means.hub.ended_here(job.id)
            if lost.state is JobState.PENDING:
                self._means.requeued(lost.due_at)

    def _end(self, attempt: Attempt) -> None:
        key = _key(attempt.job)
        del self._tasks[key], self._attempts[key]
        if attempt.run is not None and attempt.run.abandoned:
            self._left_behind += 1
            attempt.run.on_thread_end = self._thread_ended
        self._on_end()
        self._tell()

    def _thread_ended(self) -> None:
        self._left_behind -= 1
        self._tell()

    async def _return(self, jobs: Sequence[Job]) -> None:
        """Make claimed jobs pending again that were not begun.

        Their number stays used: were it given to another worker, a repeated write of this one would pass for its own.
        """
        store, now = self._means.store, self._means.clock()
        for job in jobs:
            with contextlib.suppress(StaleAttemptError):
                await store.put_back(job.id, job.attempt, due_at=now, failed=False)

    # Waiting

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            wake(waiter)


def _key(job: Job) -> _Key:
    return job.id, job.attempt
