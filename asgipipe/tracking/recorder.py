"""The recorder of one deployment: what its runs leave behind, as their policies say."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic, time

from pydantic_core import to_json

from asgipipe.errors import HTTPError, StoreError
from asgipipe.pipelines.context import Environment, Run
from asgipipe.settings import DeploymentSettings
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.tracking import store
from asgipipe.tracking.artifacts import ArtifactFiles, artifact_files, keeps_files
from asgipipe.tracking.capture import RunCapture
from asgipipe.tracking.logs import RunLogHandler
from asgipipe.tracking.policy import plan_of, plan_of_override
from asgipipe.tracking.records import Subject
from asgipipe.tracking.writer import BackgroundWriter

logger = logging.getLogger("asgipipe")

_LOOK = 1.0
"""Seconds after which a run that still runs is written, and between later looks."""
_PRUNE_FIRST = 5.0
_PRUNE_EVERY = 600.0
_PRUNE_AT_ONCE = 200
_BUNDLES_AT_ONCE = 20
_LAST = 1.0
"""Seconds that a stop waits for runs that were cancelled."""
_STOP = 10.0
"""Seconds that it waits for what is still to be written."""


class Recorder:
    """Records runs as the deployment's policy, or that of a request, says; used on the event loop.

    `metadata` is what every recorded run says of where it ran. Nothing is opened before the first run that is recorded,
    and nothing is attached to `logging` before the first one that keeps logs or has a listener.
    """

    def __init__(
        self,
        settings: DeploymentSettings,
        environment: Environment,
        lazy: LazyDatabase,
        *,
        deployment: str,
        pipeline: str,
        metadata: Mapping[str, object],
        clock: Callable[[], float] = time,
    ) -> None:
        self.plan = plan_of(settings.capture)
        self._allow_override = settings.allow_capture_override
        self._retention = settings.capture_retention
        self._artifact_url = settings.artifact_url
        self._environment = environment
        self._lazy = lazy
        self._subject = Subject(deployment, pipeline, to_json(metadata))
        self._clock = clock
        self.writer = BackgroundWriter(
            lazy, self._subject, self._files, keeps_files=keeps_files(settings.artifact_url, settings.store_url)
        )
        self._handler: RunLogHandler | None = None
        self._active: set[RunCapture] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._started = False
        self._young: set[str] = set()
        self._all_ended: asyncio.Event | None = None

    # Life

    def start(self) -> None:
        self._started = True
        self._all_ended = None
        self.writer.start()
        if self._retention is not None:
            self._pruning = asyncio.get_running_loop().create_task(self._prune_now_and_then(), name="asgipipe-prune")

    async def stop(self) -> None:
        """Write what there is, and let go of everything but the store."""
        if not self._started:
            return
        await self._last_runs()
        self._started = False
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait([self._pruning])
        if self._handler is not None:
            self._handler.detach()
            self._handler = None
        self._active.clear()
        await self.writer.stop(_STOP)

    async def _last_runs(self) -> None:
        """Give the runs that were cancelled a moment to end."""
        if self._active:
            self._all_ended = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST):
                    await self._all_ended.wait()

    # Runs

    def begin(
        self, run: Run, base: float, override: bytes | None = None, *, attempt: int = 1, repeatable: bool = False
    ) -> RunCapture | None:
        """Look on at a run that begins now, if it is to be recorded.

        `base` is what makes seconds since the epoch of those of the monotonic clock, for all its times to agree.

        What a run with a listener writes to `logging` goes there, too.
        """
        if run.listener is not None:
            self.listen()
        plan = self.plan
        if override is not None and self._allow_override:
            plan = plan_of_override(override)
        if plan is None or not self._started or (plan.rate < 1.0 and not plan.takes(run.id)):
            return None
        capture = RunCapture(run, plan, self._subject, self.writer, base, attempt=attempt, repeatable=repeatable)
        run.observer = capture
        if self._handler is None and plan.logs:
            self.listen()
        if not plan.failures_only:
            self._active.add(capture)
            if self._looking is None:
                self._looking = asyncio.get_running_loop().call_later(_LOOK, self._look)
        return capture

    def end(self, capture: RunCapture, seconds: float) -> "Future[None] | None":
        """Take the end of a run; the future, when its policy waits, is done when everything is durable."""
        self._active.discard(capture)
        capture.run.observer = None  # they know each other, and would be left to the garbage collector
        if self._all_ended is not None and not self._active:
            self._all_ended.set()
        return capture.finish(seconds)

    def listen(self) -> None:
        """Take what runs write to `logging` from now on."""
        if self._handler is None and self._started:
            self._handler = RunLogHandler(self._environment)
            self._handler.attach()

    def _look(self) -> None:
        """Write what is new of the runs that take long."""
        self._looking = None
        before = monotonic() - _LOOK
        for capture in tuple(self._active):
            if capture.began <= before and not capture.is_quiet and not self.writer.full:
                capture.hand_over()
        if self._active:
            self._looking = asyncio.get_running_loop().call_later(_LOOK, self._look)

    # Retention

    async def _prune_now_and_then(self) -> None:
        await asyncio.sleep(_PRUNE_FIRST)
        while True:
            try:
                if self._lazy.opened:
                    await self.prune()
            except (HTTPError, StoreError, OSError) as error:
                logger.warning("old runs could not be pruned, which is tried again later: %s", error)
            await asyncio.sleep(_PRUNE_EVERY)

    async def prune(self) -> int:
        """Delete the runs that are older than `capture_retention`, and their files; return how many there were."""
        if self._retention is None:
            return 0
        database = await self._lazy.open()
        before = self._clock() - self._retention
        total = 0
        while True:
            rows = partial(store.prune, deployment=self._subject.deployment, before=before, limit=_PRUNE_AT_ONCE)
            count, hashes = await database.write(rows)
            total += count
            self._young.update(hashes)
            if count < _PRUNE_AT_ONCE:
                break
        operation = partial(
            store.prune_bundles, deployment=self._subject.deployment, before=before, limit=_BUNDLES_AT_ONCE
        )
        while count := await database.write(operation):
            total += count
        if self._young:
            unnamed = await database.read(partial(store.unnamed, hashes=sorted(self._young)))
            kept = await asyncio.get_running_loop().run_in_executor(None, self._delete, unnamed)
            self._young = set(kept)
        return total

    def _delete(self, hashes: list[str]) -> list[str]:
        """Delete files, and return those that have to wait."""
        files = self._files()
        return [name for name in hashes if not files.delete(name)]

    def _files(self) -> ArtifactFiles:
        return artifact_files(self._artifact_url, self._lazy.database.place)
