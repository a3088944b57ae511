"""The threads of one deployment.

`asyncio.to_thread` and anyio's limiter wake the event loop once per call, which costs 40 to 50 µs a request under load.
Here finished calls are collected, and one wake-up hands over all that are there. A slot is free again when its thread
has really ended, also when nobody waits for the call any more.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 0.02
"""Seconds that a call may wait in the queue before more threads are started. Short calls are served best by one thread,
because more of them only fight for the interpreter lock (15.0 thousand requests a second with one, 14.4 with two, 13.5
with four); calls that block need more."""


class Call(Generic[T]):
    """A function on its way through a thread; `error` is set instead of `value` when it raised."""

    __slots__ = ("_claim", "abandoned", "context", "error", "function", "on_end", "value")

    def __init__(self, function: Callable[[], T], on_end: Callable[["Call[T]"], None] | None) -> None:
        self.function = function
        self.context = contextvars.copy_context()
        self.on_end = on_end
        self.value: T | None = None
        self.error: BaseException | None = None
        self.abandoned = False
        self._claim = threading.Lock()

    @property
    def begun(self) -> bool:
        return self._claim.locked()

    def execute(self) -> bool:
        """Run the function here unless another thread has begun it; return whether it was run."""
        if not self._claim.acquire(blocking=False):
            return False
        if not self.abandoned:
            try:
                self.value = self.context.run(self.function)
            except BaseException as error:  # boundary: user code may raise anything; the caller decides what it means
                self.error = error
        return True


class ThreadExecutor:
    """Runs calls in at most `size` daemon threads, which start when they are needed.

    `start()` ties it to the running event loop; no thread, lock or queue of it is in use before that, so it survives a
    fork.

    `around_calls` is called in a thread before and after each call, `on_thread_end` before it ends: for what a
    framework keeps in each thread, such as connections. They do not raise.
    """

    def __init__(self, size: int, name: str = "asgipipe") -> None:
        self.size = size
        self.around_calls: Callable[[], None] | None = None
        self.on_thread_end: Callable[[], None] | None = None
        self._name = name
        self._queue: SimpleQueue[Call[object] | None] = SimpleQueue()
        self._ended: deque[Call[object]] = deque()
        self._wake_scheduled = False
        self._threads: list[threading.Thread] = []
        self._submitted = 0
        self._watching = False
        self._spawning = threading.Lock()
        self._local = threading.local()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        # After a stop, threads that were busy still end on the old queue, and a wake-up may never have come.
        self._queue = SimpleQueue()
        self._wake_scheduled = self._watching = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the executor was not started")
        return self._loop

    def submit(self, function: Callable[[], T], on_end: Callable[[Call[T]], None] | None = None) -> Call[T]:
        """Queue `function`, in a copy of the caller's context; `on_end` is called on the event loop after it ended."""
        call = Call(function, on_end)
        self.enqueue(call)
        return call

    def enqueue(self, call: Call[T]) -> None:
        self._queue.put(call)  # type: ignore[arg-type]  # a Call[T] is read as a Call[object] from here on
        self._submitted += 1
        threads = len(self._threads)
        if threads < self.size and self._queue.qsize() > 0:
            if threads == 0:
                self._spawn(1)
            elif not self._watching:
                self._watching = True
                self.loop.call_soon_threadsafe(self._watch)

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in a thread and return what it returns, or raise what it raises."""
        future: asyncio.Future[Call[T]] = self.loop.create_future()

        def end(call: Call[T]) -> None:
            if not future.done():
                future.set_result(call)

        call = self.submit(function, end)
        try:
            await future
        except asyncio.CancelledError:
            call.abandoned = True
            raise
        if call.error is not None:
            raise call.error
        return call.value  # type: ignore[return-value]  # T may itself be Optional, so None is a value here

    def call_aside(self, function: Callable[[], T], timeout: float) -> Call[T] | None:
        """Run `function` in a helper thread; return the ended call, or None when it takes over `timeout` seconds.

        The helper lives on, and counts against the slot of the thread that called: that one takes no other call before
        the helper ended, and the helpers that this one has left behind itself.
        """
        call = Call(function, None)
        helpers: list[threading.Thread] | None = getattr(self._local, "helpers", None)

        def help_out() -> None:
            self._local.helpers = helpers
            call.execute()
            if self.on_thread_end is not None:
                self.on_thread_end()

        helper = threading.Thread(target=help_out, name=f"{self._name}-helper", daemon=True)
        helper.start()
        helper.join(timeout)
        if not helper.is_alive():
            return call
        if helpers is not None:
            helpers.append(helper)
        return None

    def stop(self, timeout: float = 1.0) -> None:
        """End the idle threads; busy ones end with the process, or when their call does."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout / len(self._threads))
        self._threads.clear()

    def _spawn(self, most: int) -> None:
        """Start a thread, unless there are `most` already."""
        with self._spawning:
            if len(self._threads) >= most:
                return
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        helpers: list[threading.Thread] = []
        self._local.helpers = helpers
        queue = self._queue
        while (call := queue.get()) is not None:
            around = self.around_calls
            if around is not None:
                around()
            executed = call.execute()
            if around is not None:
                around()
            if executed and call.on_end is not None:
                self._ended.append(call)
                if not self._wake_scheduled:
                    self._wake_scheduled = True
                    # A closed loop means that the process is on its way out.
                    with contextlib.suppress(RuntimeError):
                        self.loop.call_soon_threadsafe(self._deliver)
            if helpers:
                self._wait_for(helpers)
            del call
        if self.on_thread_end is not None:
            self.on_thread_end()

    @staticmethod
    def _wait_for(helpers: list[threading.Thread]) -> None:
        while helpers:
            helpers.pop().join()

    def _deliver(self) -> None:
        # Lowered before the queue is emptied: a call that ends from here on either is seen below or wakes us again.
        self._wake_scheduled = False
        ended = self._ended
        try:
            while ended:
                call = ended.popleft()
                on_end, call.on_end = call.on_end, None  # whoever waits holds the call: keep no cycle for the collector
                if on_end is not None:
                    on_end(call)
        finally:
            if ended:  # an exception of one must not keep the others waiting
                self.loop.call_soon(self._deliver)

    def _watch(self) -> None:
        self.loop.call_later(_PATIENCE, self._relieve, self._submitted)

    def _relieve(self, mark: int) -> None:
        """Start more threads when calls submitted before `mark` are still waiting."""
        # Lowered before the queue is looked at: a call from here on either is counted below or asks for a look itself.
        self._watching = False
        queued = self._queue.qsize()
        waiting = mark - (self._submitted - queued)
        for _ in range(min(waiting, self.size - len(self._threads))):
            self._spawn(self.size)
        # Calls that came after the mark get their own look; nobody else would give them one.
        if queued > max(waiting, 0) and len(self._threads) < self.size and not self._watching:
            self._watching = True
            self._watch()
