"""The queue that needs nothing but the store: it looks there whenever something may be due."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.jobs.queue import BaseJobQueue, Consumer

logger = logging.getLogger("asgipipe")

_SOON = 0.02
"""Seconds before another look for a job that is due and was not to be had: somebody else is claiming it."""
_PAUSES = (0.1, 1.0)
"""Seconds before the first and, at most, each later attempt to reach a store that cannot be reached."""


class EmbeddedQueue(BaseJobQueue):
    """Claims jobs from the store in batches; while nothing happens, it does nothing.

    It looks when this process makes a job pending, when another one has changed the store, when the next job is due,
    and, in case it was told of none of these, every `look` seconds.
    """

    def __init__(self, *, look: float = 5.0, clock: Callable[[], float] = time.time, **options: object) -> None:
        super().__init__(**options)
        self._longest = look
        self._clock = clock
        self._draining = False
        self._due_here = False
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._end_watch: Callable[[], None] = _nothing

    def pending(self, due_at: float) -> None:
        self._due_here = self._due_here or due_at <= self._clock()
        if self._wake is not None:
            self._wake.set()

    async def start(self, consumer: Consumer) -> None:
        loop = asyncio.get_running_loop()
        wake = self._wake = asyncio.Event()
        self._draining = False
        self._due_here = True

        def changed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                loop.call_soon_threadsafe(wake.set)

        self._end_watch = consumer.database.watch(changed)
        self._task = loop.create_task(self._deliver(consumer, wake), name="asgipipe-job-queue")

    async def drain(self) -> None:
        self._draining = True
        if self._wake is not None and self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        self._end_watch()
        self._end_watch = _nothing
        task, self._task, self._wake = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _deliver(self, consumer: Consumer, wake: asyncio.Event) -> None:
        pause, longest = _PAUSES
        while not self._draining and await consumer.has_room():
            wake.clear()
            try:
                wait = await self._look(consumer)
                pause = _PAUSES[0]
            except Exception as error:  # boundary: whatever it is, what waits must still be delivered
                if pause == _PAUSES[0]:
                    ours = isinstance(error, UnavailableError | StorageFullError)
                    logger.warning(
                        "the job queue cannot reach the store, which is tried again: %s",
                        error,
                        exc_info=None if ours else error,
                    )
                self._due_here = True  # a claim may have been lost on its way back
                wait, pause = pause, min(2 * pause, longest)
            if wait > 0 and not self._draining:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await wake.wait()

    async def _look(self, consumer: Consumer) -> float:
        """Have the worker take what is due, and return how many seconds there is nothing to do."""
        # A claim locks the database, so others are asked for nothing that is not there.
        if not self._due_here and (wait := await self._until_due(consumer)) > _SOON:
            return wait
        self._due_here = False
        await consumer.take()
        if not consumer.room:
            self._due_here = True
            return 0.0
        return await self._until_due(consumer)

    async def _until_due(self, consumer: Consumer) -> float:
        due_at = await consumer.next_due()
        wait = self._longest if due_at is None else due_at - self._clock()
        return min(max(wait, _SOON), self._longest)


def _nothing() -> None:
    """End nothing."""
