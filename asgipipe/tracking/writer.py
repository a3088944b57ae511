"""Writing what was recorded, in the background and in groups."""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import monotonic

from asgipipe.errors import StoreError, UnavailableError
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.tracking import store
from asgipipe.tracking.artifacts import ArtifactFiles
from asgipipe.tracking.capture import Part, PartWriter

logger = logging.getLogger("asgipipe")

MAX_ROWS = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""What may wait for the store; beyond, runs wait at the end of their next step."""

_GROUP_ROWS = 2000
_GROUP_BYTES = 8 * 1024 * 1024
_DELAYS = (0.05, 2.0)
"""Seconds before the first and, at most, each later attempt to reach a store that cannot be written."""
_PATIENCE = 10.0
"""Seconds for which that goes on; after them each group has one attempt, until one succeeds."""
_REPORTS = 60.0


class BackgroundWriter(PartWriter):
    """Takes parts on any thread and writes them from the event loop, one group at a time, while the next one gathers.

    `waits` counts how often a run had to wait for room, `lost` the rows that could not be written. A part that waits is
    written at once; others may wait a little for more.
    """

    def __init__(
        self,
        lazy: LazyDatabase,
        files: Callable[[], ArtifactFiles],
        *,
        keeps_files: bool,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.full = False
        self.keeps_files = keeps_files
        self.waits = 0
        self.lost = 0
        self._lazy = lazy
        self._make_files = files
        self._files: ArtifactFiles | None = None
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._clock = clock
        self._parts: deque[Part] = deque()
        self._waiting_for_room: deque[Future[None]] = deque()
        self._rows = 0
        self._bytes = 0
        self._scheduled = False
        self._stopped = True
        self._failing_since: float | None = None
        self._reported = -_REPORTS
        self._unreported = 0

    def start(self) -> None:
        """Make ready, on the event loop."""
        self._stopped = self._scheduled = False  # a task that was cancelled has left it scheduled
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._file_thread: ThreadPoolExecutor | None = None

    async def stop(self, timeout: float) -> None:
        """Write what there is, for `timeout` seconds at most; the rest is lost, and counted."""
        self._stopping.set()
        if self._scheduled and (self._task is None or self._task.done()):
            await asyncio.sleep(0)  # it is about to begin
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
            self._task.cancel()
            await asyncio.wait([self._task])
        with self._lock:
            self._stopped = True
            left = list(self._parts)
            self._parts.clear()
        if left:
            self._lose(left, UnavailableError("The deployment has stopped."))
            self._release(left)
        self._report()
        if self._file_thread is not None:
            self._file_thread.shutdown(wait=False)

    # On any thread

    def put(self, part: Part) -> None:
        with self._lock:
            if self._stopped:
                self._lose([part], UnavailableError("The deployment has stopped."))
                if part.waiter is not None:
                    part.waiter.cancel()
                return
            self._parts.append(part)
            self._rows += part.count
            self._bytes += part.size
            self.full = self._is_full()
            must_wake, self._scheduled = not self._scheduled, True
        if must_wake:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                self._loop.call_soon_threadsafe(self._begin)

    def room(self) -> "Future[None]":
        """Return a future that is done when there is room."""
        waiter: Future[None] = Future()
        with self._lock:
            self.waits += 1
            if self.full:
                self._waiting_for_room.append(waiter)
                return waiter
        waiter.set_result(None)
        return waiter

    def _is_full(self) -> bool:
        return self._rows >= self._max_rows or self._bytes >= self._max_bytes

    # On the event loop

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._write_all(), name="asgipipe-capture")

    async def _write_all(self) -> None:
        while group := self._group():
            try:
                await self._write(group)
            except asyncio.CancelledError:
                self._lose(group, UnavailableError("The deployment has stopped."))
                raise
            finally:
                self._release(group)

    def _group(self) -> list[Part]:
        """Take what is written next; nothing ends the task."""
        group: list[Part] = []
        rows = size = 0
        with self._lock:
            while self._parts and rows < _GROUP_ROWS and size < _GROUP_BYTES:
                part = self._parts.popleft()
                rows += part.count
                size += part.size
                group.append(part)
            self._scheduled = bool(group)
        return group

    async def _write(self, group: list[Part]) -> None:
        delay, longest = _DELAYS
        while True:
            try:
                await self._attempt(group)
            except Exception as error:  # boundary: whatever it is, it must neither fail a run nor end the writing
                if self._gives_up(error):
                    self._lose(group, error)
                    return
                await self._pause(delay)
                delay = min(2 * delay, longest)
            else:
                self._failing_since = None
                self._report()
                return

    async def _attempt(self, group: list[Part]) -> None:
        database = await self._lazy.open()
        large = [part for part in group if part.large]
        if large:
            await self._put_files(large)
        urgent = any(part.waiter is not None for part in group) or self.full or self._stopping.is_set()
        operation = partial(store.write, group=group)
        await asyncio.wrap_future(database.enqueue(operation, urgent=urgent))

    async def _put_files(self, parts: list[Part]) -> None:
        if self._file_thread is None:
            self._file_thread = ThreadPoolExecutor(1, thread_name_prefix="asgipipe-artifacts")
        for part in parts:
            await self._loop.run_in_executor(self._file_thread, self._put_files_of, part)

    def _put_files_of(self, part: Part) -> None:
        if self._files is None:
            self._files = self._make_files()
        part.artifacts = [
            (part.id, number, name, len(body), self._files.put(body)) for number, name, body in part.large
        ]
        part.large = ()

    def _gives_up(self, error: Exception) -> bool:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        return isinstance(error, StoreError) or self._stopping.is_set() or now - self._failing_since >= _PATIENCE

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _release(self, group: list[Part]) -> None:
        """Make room for others, and let go on whoever waits for these."""
        with self._lock:
            self._rows -= sum(part.count for part in group)
            self._bytes -= sum(part.size for part in group)
            self.full = self._is_full()
            going_on = [] if self.full else list(self._waiting_for_room)
            if going_on:
                self._waiting_for_room.clear()
        for waiter in (*(part.waiter for part in group), *going_on):
            if waiter is not None and waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    def _lose(self, group: list[Part], error: Exception | None) -> None:
        rows = sum(part.count for part in group)
        self.lost += rows
        self._unreported += rows
        now = self._clock()
        if now - self._reported >= _REPORTS:
            self._reported = now
            logger.error("%d rows of recorded runs could not be written and are lost: %s", self._unreported, error)
            self._unreported = 0

    def _report(self) -> None:
        """Tell of what was lost since the last report."""
        if self._unreported:
            logger.error("%d more rows of recorded runs could not be written and are lost", self._unreported)
            self._unreported = 0
            self._reported = self._clock()
