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
from asgipipe.stores.database import Transaction
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.tracking import bundles, store
from asgipipe.tracking.artifacts import ArtifactFiles
from asgipipe.tracking.capture import Part, PartWriter
from asgipipe.tracking.records import Subject

logger = logging.getLogger("asgipipe")

MAX_ROWS = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""What may wait for the store; beyond, runs wait at the end of their next step."""

GATHER = 0.25
"""Seconds that rows wait for more. Each commit has the job queues of other processes look into the store, and each of
the threads that take part has to get the interpreter from a busy event loop: with commits every 0.05 s this cost as
much as the rows."""

_GROUP_ROWS = 2000
_GROUP_BYTES = 8 * 1024 * 1024
_DELAYS = (0.05, 2.0)
"""Seconds before the first and, at most, each later attempt to reach a store that cannot be written."""
_PATIENCE = 10.0
"""Seconds for which that goes on; after them each group has one attempt, until one succeeds."""
_REPORTS = 60.0


class Group:
    """What is written together: runs for bundles, and parts; `rows` and `size`, in bytes, are what they come to."""

    def __init__(self) -> None:
        self.runs: dict[str, bytes] = {}
        self.parts: list[Part] = []
        self.rows = 0
        self.size = 0

    def write(self, subject: Subject, transaction: Transaction) -> None:
        store.write(transaction, self.parts)
        bundles.write(transaction, subject, self.runs)


class BackgroundWriter(PartWriter):
    """Takes runs and parts of runs on any thread and writes them from the event loop, in groups, one at a time.

    `waits` counts how often a run had to wait for room, `lost` the rows that could not be written. What somebody waits
    for is written at once; other rows wait `gather` seconds for more.
    """

    def __init__(
        self,
        lazy: LazyDatabase,
        subject: Subject,
        files: Callable[[], ArtifactFiles],
        *,
        keeps_files: bool,
        gather: float = GATHER,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.full = False
        self.keeps_files = keeps_files
        self.waits = 0
        self.lost = 0
        self._lazy = lazy
        self._subject = subject
        self._make_files = files
        self._files: ArtifactFiles | None = None
        self._gather = gather
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._clock = clock
        self._groups: deque[Group] = deque()
        self._gathering = Group()
        self._waiting_for_room: deque[Future[None]] = deque()
        self._rows = 0
        self._bytes = 0
        self._scheduled = False
        self._hurried = False
        self._stopped = True
        self._failing_since: float | None = None
        self._reported = -_REPORTS
        self._unreported = 0

    def start(self) -> None:
        """Make ready, on the event loop."""
        self._stopped = self._scheduled = self._hurried = False  # a task that was cancelled has left it scheduled
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._file_thread: ThreadPoolExecutor | None = None

    async def stop(self, timeout: float) -> None:
        """Write what there is, for `timeout` seconds at most; the rest is lost, and counted."""
        self._stopping.set()
        self._hurry.set()
        if self._scheduled and (self._task is None or self._task.done()):
            await asyncio.sleep(0)  # it is about to begin
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
            self._task.cancel()
            await asyncio.wait([self._task])
        with self._lock:
            self._stopped = True
        while left := self._group():
            self._lose(left.rows, UnavailableError("The deployment has stopped."))
            self._release(left)
        self._report()
        if self._file_thread is not None:
            self._file_thread.shutdown(wait=False)

    # On any thread

    def put(self, part: Part) -> None:
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._gathering.parts.append(part)
                self._count(part.count, part.size, urgent=part.waiter is not None)
        if stopped:
            self._lose(part.count, UnavailableError("The deployment has stopped."))
            if part.waiter is not None:
                part.waiter.cancel()

    def put_run(self, run_id: str, run: bytes) -> None:
        """Take a packed run for a bundle."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._gathering.runs[run_id] = run
                self._count(1, len(run))
        if stopped:
            self._lose(1, UnavailableError("The deployment has stopped."))

    def _count(self, rows: int, size: int, *, urgent: bool = False) -> None:
        """Count what was added to the group that gathers, and have it written."""
        group = self._gathering
        group.rows += rows
        group.size += size
        self._rows += rows
        self._bytes += size
        if group.rows >= _GROUP_ROWS or group.size >= _GROUP_BYTES:
            self._groups.append(group)
            self._gathering = Group()
            urgent = True
        if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
            self.full = urgent = True
        if urgent and not self._hurried:
            self._hurried = True
            if self._scheduled:
                self._on_loop(self._hurry.set)
        if not self._scheduled:
            self._scheduled = True
            self._on_loop(self._begin)

    def _on_loop(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            self._loop.call_soon_threadsafe(function)

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

    # On the event loop

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._write_all(), name="asgipipe-capture")

    async def _write_all(self) -> None:
        await self._linger()
        while group := self._group():
            try:
                await self._write(group)
            except asyncio.CancelledError:
                self._lose(group.rows, UnavailableError("The deployment has stopped."))
                raise
            finally:
                self._release(group)
            await self._linger()

    async def _linger(self) -> None:
        """Let more gather, unless somebody waits, or there is much already."""
        with self._lock:
            hurried, self._hurried = self._hurried, False
            self._hurry.clear()
        if not (hurried or self._groups or self._stopping.is_set()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gather):
                    await self._hurry.wait()

    def _group(self) -> Group | None:
        """Take what is written next; nothing ends the task."""
        with self._lock:
            if self._groups:
                return self._groups.popleft()
            group = self._gathering
            self._scheduled = group.rows > 0
            if not self._scheduled:
                return None
            self._gathering = Group()
        return group

    async def _write(self, group: Group) -> None:
        delay, longest = _DELAYS
        while True:
            try:
                await self._attempt(group)
            except Exception as error:  # boundary: whatever it is, it must neither fail a run nor end the writing
                if self._gives_up(error):
                    self._lose(group.rows, error)
                    return
                await self._pause(delay)
                delay = min(2 * delay, longest)
            else:
                self._failing_since = None
                self._report()
                return

    async def _attempt(self, group: Group) -> None:
        database = await self._lazy.open()
        large = [part for part in group.parts if part.large]
        if large:
            await self._put_files(large)
        await asyncio.wrap_future(database.enqueue(partial(group.write, self._subject)))

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

    def _release(self, group: Group) -> None:
        """Make room for others, and let go on whoever waits for these."""
        with self._lock:
            self._rows -= group.rows
            self._bytes -= group.size
            self.full = self._rows >= self._max_rows or self._bytes >= self._max_bytes
            going_on = [] if self.full else list(self._waiting_for_room)
            if going_on:
                self._waiting_for_room.clear()
        for waiter in (*(part.waiter for part in group.parts), *going_on):
            if waiter is not None and waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    def _lose(self, rows: int, error: Exception) -> None:
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
