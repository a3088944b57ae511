"""From what happens in a run to numbered events that are durable."""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from time import time

from asgipipe.errors import HTTPError, OutputError, RunError
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.records import TERMINAL_EVENTS, Event, Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore, StaleAttemptError
from asgipipe.pipelines.context import current, wake
from asgipipe.pipelines.contract import dump_anything

logger = logging.getLogger("asgipipe")

OUTPUT_DELTA = "output_delta"

CAPACITY = 10_000
"""Events that may wait for the store before whoever tells more of them has to wait."""
MAX_DELTA = 1024 * 1024
"""Bytes of JSON that one event may carry."""

_CAPACITY_BYTES = 4 * 1024 * 1024
_OVERFLOW = 10
"""How many times the capacity may wait when code on the event loop, which cannot be made to wait, tells more."""
_BATCH = 1000
_BATCH_BYTES = 1024 * 1024
_MAX_MESSAGE = 2000
_SILENT = "the step failed"
_DELAYS = (0.05, 5.0)
"""Seconds before the first and, at most, each later attempt to reach a store that cannot be written."""
_LOOK = 0.1
"""Seconds between looks of a thread that waits for room at whether its run was cancelled."""

Result = tuple[int, str, bytes]


class Recording:
    """The listener of one attempt of a job; it may be called on any thread.

    Events are numbered from the last one of the job on. While one group of them is being written the next one gathers,
    and followers get them once they are durable. When CAPACITY of them wait, a thread that tells another one waits
    until there is room, or its run is cancelled (RunCanceled); async code that streams waits in `Run.room`. Code on the
    event loop that does neither may tell ten times as many; beyond, it gets a RunError.

    `on_stale` is called, once, when the attempt turns out to be no longer the job's. What is told after that, or after
    `take`, is not heard: it comes from threads that were left behind. With `error_messages` off, events do not say what
    a step raised.
    """

    def __init__(
        self,
        job: Job,
        store: JobStore,
        hub: Hub,
        loop: asyncio.AbstractEventLoop,
        *,
        on_stale: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time,
        capacity: int = CAPACITY,
        error_messages: bool = True,
    ) -> None:
        self._job_id = job.id
        self._attempt = job.attempt
        self._store = store
        self._hub = hub
        self._loop = loop
        self._on_stale = on_stale
        self._clock = clock
        self._capacity = capacity
        self._error_messages = error_messages
        self._last = job.last_event
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._results: deque[tuple[Result, Future[None]]] = deque()
        self._changed = threading.Condition()
        self._scheduled = False
        self._ended = False
        self._stopped = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        hub.runs_here(job.id)

    # Telling

    def __call__(self, event_type: str, step_name: str | None, data: Mapping[str, object]) -> None:
        """Take an event. Raises OutputError for data that has no JSON form, or more than MAX_DELTA bytes of it."""
        if "error" in data and not self._error_messages:
            data = {**data, "error": _SILENT}
        body = _dump(event_type, step_name, data)
        with self._changed:
            if self._full():
                self._wait_for_room()
            if self._ended:
                return
            self._last += 1
            self._waiting.append(Event(self._job_id, self._last, event_type, step_name, self._clock(), body))
            self._bytes += len(body)
            wake = self._must_wake()
        if wake:
            self._wake()

    def keep(self, result: Result) -> "Future[None]":
        """Have the result of a step written: position, name, JSON. The future is done when that is durable."""
        kept: Future[None] = Future()
        with self._changed:
            if self._ended:
                kept.cancel()
                return kept
            self._results.append((result, kept))
            wake = self._must_wake()
        if wake:
            self._wake()
        return kept

    def _full(self, times: int = 1) -> bool:
        return len(self._waiting) >= self._capacity * times or self._bytes >= _CAPACITY_BYTES * times

    def _wait_for_room(self) -> None:
        """Wait, with the condition held, until there is room; on the event loop, see to it that the run does."""
        context = current.get()
        run = None if context is None else context[0]
        if asyncio._get_running_loop() is not self._loop:
            while self._full() and not self._ended:
                if run is not None:
                    run.checkpoint()
                self._changed.wait(_LOOK)
        elif self._full(_OVERFLOW) and not self._ended:
            raise RunError(
                f"{len(self._waiting)} events wait to be stored: code on the event loop has to await between them, or "
                "to tell them in a sync step that was submitted"
            )
        elif run is not None:
            run.room = self.room

    def _must_wake(self) -> bool:
        must, self._scheduled = not self._scheduled, True
        return must

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            self._loop.call_soon_threadsafe(self._start)

    async def room(self) -> None:
        """Wait until there is room for more."""
        while self._full() and not self._ended:
            await self._next_write()

    # Writing

    def _start(self) -> None:
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while (group := self._group()) is not None and await self._append(*group):
                pass
        finally:
            self._writer = None

    def _group(self) -> tuple[list[Event], list[tuple[Result, "Future[None]"]]] | None:
        """Return what is to be written next, None when that is nothing."""
        with self._changed:
            if self._ended or not (self._waiting or self._results):
                self._scheduled = False
                return None
            events: list[Event] = []
            size = 0
            for event in self._waiting:
                size += len(event.data)
                if events and (len(events) == _BATCH or size > _BATCH_BYTES):
                    break
                events.append(event)
            # A result comes after all that was told before it: it waits for the last part of the events.
            whole = len(events) == len(self._waiting)
            return events, list(self._results) if whole else []

    async def _append(self, events: list[Event], results: list[tuple[Result, "Future[None]"]]) -> bool:
        """Write one group; return False when there is no more to be done."""
        delay, longest = _DELAYS
        while not self._ended:
            progress = next((event.data for event in reversed(events) if event.type == "progress"), None)
            try:
                await self._store.append(
                    self._job_id,
                    self._attempt,
                    events,
                    progress=progress,
                    results=[result for result, _ in results],
                )
            except StaleAttemptError:
                self._end()
                self._on_stale()
                return False
            except Exception as error:  # boundary: whatever it is, the run must neither end nor wait for ever for it
                self._complain(error, delay)
                await self._sleep(delay)
                delay = min(2 * delay, longest)
            else:
                self._written(events, results)
                return True
        return False

    def _complain(self, error: Exception, delay: float) -> None:
        if delay > _DELAYS[0]:
            return
        if not isinstance(error, HTTPError):
            logger.error("job %s: its events cannot be stored", self._job_id, exc_info=error)
        else:
            logger.warning("job %s: its events cannot be stored, which is tried again: %s", self._job_id, error)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def _written(self, events: list[Event], results: list[tuple[Result, "Future[None]"]]) -> None:
        with self._changed:
            if not self._ended:  # else `take` has handed them out, to be found stored already
                for event in events:
                    self._waiting.popleft()
                    self._bytes -= len(event.data)
                for _ in results:
                    self._results.popleft()
            self._changed.notify_all()
        self._hub.published(self._job_id, events)
        for _, kept in results:
            if kept.set_running_or_notify_cancel():
                kept.set_result(None)
        self._wake_waiters()

    async def _next_write(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            wake(waiter)

    # The end

    async def flush(self) -> None:
        """Wait until what was told so far is durable, or no more is heard."""
        last, results = self._last, [kept for _, kept in self._results]
        while not self._ended and ((self._waiting and self._waiting[0].id <= last) or not all(map(_done, results))):
            await self._next_write()

    def take(self) -> list[Event]:
        """Hear no more, and return the events that are not known to be durable, for the change that ends the attempt.

        Some of them may be stored already or in this very moment; they are found by their numbers.
        """
        self._end()
        return list(self._waiting)

    def terminal(self, state: JobState, envelope: bytes) -> Event:
        """Hear no more, and return the event that ends the job, which follows those of `take`."""
        self._end()
        return Event(self._job_id, self._last + 1, TERMINAL_EVENTS[state], None, self._clock(), envelope)

    def _end(self) -> None:
        with self._changed:
            if self._ended:
                return
            self._ended = True
            for _, kept in self._results:
                kept.cancel()
            self._changed.notify_all()
        self._stopped.set()
        self._wake_waiters()
        self._hub.ended_here(self._job_id)


_done = Future.done


def _dump(event_type: str, step_name: str | None, data: Mapping[str, object]) -> bytes:
    if event_type != OUTPUT_DELTA:
        return dump_anything({name: _bounded(value) for name, value in data.items()})
    whose = "the pipeline" if step_name is None else f"step {step_name!r}"
    try:
        body = dump_anything(data)
    except (ValueError, TypeError, RecursionError, AttributeError) as error:
        kind = type(data.get("delta")).__name__
        raise OutputError(f"a delta of {whose}, of type {kind}, is not serialisable as JSON") from error
    if len(body) > MAX_DELTA:
        raise OutputError(f"a delta of {whose} has {len(body)} bytes of JSON; {MAX_DELTA} are the most: send several")
    return body


def _bounded(value: object) -> object:
    """Return a text as it can be stored and shown: not too long, and without lone surrogates."""
    if not isinstance(value, str) or (len(value) <= _MAX_MESSAGE and value.isascii()):
        return value
    short = value if len(value) <= _MAX_MESSAGE else f"{value[:_MAX_MESSAGE]}… ({len(value)} characters)"
    return short.encode("utf-8", "replace").decode()
