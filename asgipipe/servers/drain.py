"""What a server process does when it is told to stop.

    signal ─► refuse new runs (503, Retry-After; /ready is 503), the listener stays open
           ─► wait until nothing is in flight, `drain_timeout` at most
           ─► cancel what still runs
           ─► hand the signal to the handler that the server had installed, which closes connections and the application

A second signal goes to the server's handler at once. The handlers are installed in lifespan startup, on top of the
server's own, so the same works under every server that installs its handlers before that; only in the main thread,
since Python allows it nowhere else.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import FrameType
from typing import Protocol

from asgipipe.http.drain import ABANDON_TIME

logger = logging.getLogger("asgipipe.servers")

HURRY: int = getattr(signal, "SIGQUIT", signal.SIGTERM)
"""What the parent of a supervised process sends when it was told to stop a second time."""

RETIRE: int | None = getattr(signal, "SIGUSR2", None)
"""What the parent of a supervised process sends when another process has taken its place; None where there is none."""

Handler = Callable[[int, FrameType | None], object] | int | None


class Drainable(Protocol):
    """What draining needs of a deployment's lifecycle."""

    @property
    def active(self) -> int: ...
    @property
    def jobs(self) -> int: ...
    def begin_drain(self) -> None: ...
    def drained(self) -> Coroutine[object, object, None]: ...
    def abandon(self) -> Coroutine[object, object, None]: ...


class Drain:
    """One stop of the process, at most.

    `timeout` is in seconds. `cut` says whether a request was still answered when it was over, or when a second signal
    came; jobs are handed back then, so they do not count. While the application is starting, `while_starting` is called
    instead of draining; set it to None when it has started.

    In a `supervised` process, a worker, only SIGTERM drains: the parent forwards it, so the SIGINT that a terminal
    sends to every process of the command, and a second SIGTERM of a service manager that signals them all, mean nothing
    more.
    `on_signal` is called in the signal handler, once, before anything else.
    """

    def __init__(self, lifecycles: Sequence[Drainable], timeout: float) -> None:
        self.begun = False
        self.cut = False
        self.supervised = False
        self.while_starting: Callable[[], object] | None = None
        self.on_signal: Callable[[], object] | None = None
        self.timeout = timeout
        self._lifecycles = lifecycles
        self._previous: dict[int, Handler] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def install(self) -> bool:
        """Take over the signals of this process; return False where that is impossible. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return False
        for number in {int(signal.SIGTERM), int(signal.SIGINT), *([HURRY] if self.supervised else [])}:
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._handle)
        return True

    def restore(self) -> None:
        """Put back the handlers that were there, unless somebody else has replaced ours since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        self._previous.clear()

    # Signals arrive between any two instructions of the event loop's thread: only note them there.

    def _handle(self, number: int, frame: FrameType | None) -> None:
        on_signal, self.on_signal = self.on_signal, None
        if on_signal is not None:
            on_signal()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._signalled, number)

    def _signalled(self, number: int) -> None:
        if self.supervised and number == signal.SIGINT:
            return
        if not self.begun and number in {signal.SIGTERM, signal.SIGINT}:
            self._begin(number)
        elif not self.supervised or number == HURRY:
            self._hurry(number)

    def _begin(self, number: int) -> None:
        self.begun = True
        if self.while_starting is not None:
            logger.info("%s while starting: stopping", signal.Signals(number).name)
            self.while_starting()
            self._pass_on(number)
            return
        for lifecycle in self._lifecycles:
            lifecycle.begin_drain()
        self._task = asyncio.get_running_loop().create_task(self._drain(number))

    def _hurry(self, number: int) -> None:
        logger.warning("%s again: stopping now", signal.Signals(number).name)
        self._note_cut()
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._abandon())
        self._pass_on(number)

    async def _drain(self, number: int) -> None:
        name, waiting = signal.Signals(number).name, self._in_flight()
        logger.info("%s: draining, %d in flight, %g s at most", name, waiting, self.timeout)
        try:
            async with asyncio.timeout(self.timeout):
                for lifecycle in self._lifecycles:
                    await lifecycle.drained()
        except TimeoutError:
            self._note_cut()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ABANDON_TIME):
                    await self._abandon()
                    await asyncio.gather(*(lifecycle.drained() for lifecycle in self._lifecycles))
        self._pass_on(number)

    def _note_cut(self) -> None:
        jobs = sum(lifecycle.jobs for lifecycle in self._lifecycles)
        requests = self._in_flight() - jobs
        if requests:
            logger.warning("%d still in flight after %g s: cancelled", requests, self.timeout)
        if jobs:
            logger.info("%d jobs still run and are handed back", jobs)
        self.cut = self.cut or requests > 0

    async def _abandon(self) -> None:
        await asyncio.gather(*(lifecycle.abandon() for lifecycle in self._lifecycles))

    def _in_flight(self) -> int:
        return sum(lifecycle.active for lifecycle in self._lifecycles)

    def _pass_on(self, number: int) -> None:
        number = signal.SIGTERM if number == HURRY else number  # servers give SIGQUIT another meaning, or none
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, None)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
