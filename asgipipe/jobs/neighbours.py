"""What other processes do: they ask for jobs to be cancelled, and they die; and what was lost on the way here."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.jobs.records import Job
from asgipipe.jobs.store import JobStore
from asgipipe.jobs.worker import Worker
from asgipipe.stores.database import Database

logger = logging.getLogger("asgipipe")

_LOOK = 5.0
"""Seconds between looks at the store when nothing tells of changes in it."""
_INTERVAL = 0.2
"""Seconds between looks at whether the workers live that run jobs."""
_REST = 0.1
"""Seconds between looks, at least, however often the store changes."""


class Neighbours:
    """Takes over what workers left that have died, and passes on what is asked of jobs that run here.

    While nobody else runs jobs, it only waits for changes. `taken_over` is told of jobs as they are then.
    """

    def __init__(
        self,
        database: Database,
        store: JobStore,
        worker: Worker,
        envelope: Callable[[Job, str], bytes],
        taken_over: Callable[[list[Job]], None],
        *,
        look: float = _LOOK,
    ) -> None:
        self._database = database
        self._store = store
        self._worker = worker
        self._envelope = envelope
        self._taken_over = taken_over
        self._longest = look
        self._owners: set[int] = set()
        self._looked_at = 0.0
        self._audited_at = monotonic()
        self._failing = False

    async def watch(self) -> None:
        """Go on until it is cancelled."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                loop.call_soon_threadsafe(changed.set)

        changed.set()
        end = self._database.watch(wake)
        try:
            while True:
                await self._look(changed)
                await asyncio.sleep(_REST)
                with contextlib.suppress(TimeoutError):
                    others = self._owners - {self._worker.owner}
                    async with asyncio.timeout(_INTERVAL - _REST if others else self._longest):
                        await changed.wait()
        finally:
            end()

    async def _look(self, changed: asyncio.Event) -> None:
        try:
            if changed.is_set() or monotonic() - self._looked_at >= self._longest:
                changed.clear()
                self._looked_at = monotonic()
                await self._look_at_store()
            # After itself, too, while it runs nothing: the next job that a dead worker claims is taken from it.
            if await self._take_over(await self._database.dead(self._owners | {self._worker.owner})):
                changed.set()  # they may have left more than is taken over at once
        except (UnavailableError, StorageFullError) as error:
            logger.debug("other workers cannot be looked after now: %s", error)
            changed.set()
        except Exception:  # boundary: whatever it is, the next look is needed all the more
            if not self._failing:
                logger.exception("other workers cannot be looked after, which is tried again")
            self._failing = True
        else:
            self._failing = False

    async def _look_at_store(self) -> None:
        if self._worker.busy:
            await self._worker.look_for_cancels()
        self._owners = await self._store.owners()
        if monotonic() - self._audited_at >= self._longest:
            await self._audit()

    async def _audit(self) -> None:
        """See that this worker runs whatever the store says it does: nobody else would, for as long as it lives."""
        if not self._worker.draining and (count := await self._worker.adopt()):
            logger.warning("%d jobs were claimed here without having been begun, and are begun now", count)
        self._audited_at = monotonic()

    async def _take_over(self, dead: set[int]) -> bool:
        if self._worker.owner in dead:
            await self._begin_anew()
        if not dead:
            return False
        jobs = await self._store.take_over(dead, self._envelope)
        for job in jobs:
            logger.warning("job %s: its worker was lost; the job is %s", job.id, job.state)
        self._taken_over(jobs)
        return True

    async def _begin_anew(self) -> None:
        """Go on as another worker, since others believe that this one has died."""
        number = await self._database.register()
        logger.warning("worker %d was declared dead; its jobs belong to others", self._worker.owner)
        self._worker.disown(number)
