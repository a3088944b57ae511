"""Draining where the server is somebody else's: its stop is noticed, and nothing stands in its way.

    signal ─► refuse new runs (503, Retry-After; /ready is 503)
           ─► the handler that was there before, at once
           ─► `drain_timeout` later, cancel what still runs
           ─► where the signal itself would end the process: not before deployments have stopped

The signal itself only sets flags. Handlers are Python's own (`signal.signal`), so they are in the main thread or
nowhere, and only in front of one that can be called: a signal that ends the process at once leaves nothing to drain.

`asgipipe serve` has a drain of its own, which holds the signal back until everything has finished.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from asgipipe.http.lifecycle import Lifecycle

logger = logging.getLogger("asgipipe")

_SIGNALS = (int(signal.SIGTERM), int(signal.SIGINT))

Handler = Callable[[int, FrameType | None], object]


class _Notice:
    """The handler of one signal: tells every deployment that runs, then calls the handler in front of which it stands.

    It keeps what it stands in front of, so somebody who stands in front of it in turn may keep it for ever.
    """

    def __init__(self, previous: Handler) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for watch in tuple(_watching):
            watch.notice(number)
        if _watching and number == signal.SIGTERM and _ends_by_signal(self.previous):
            _hold_back(number)
        self.previous(number, frame)


class _Watch:
    """One running deployment."""

    def __init__(self, lifecycle: Lifecycle, timeout: float) -> None:
        self._lifecycle = lifecycle
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._noticed = False
        self._timer: asyncio.TimerHandle | None = None
        self._abandoning: asyncio.Task[None] | None = None

    def notice(self, number: int) -> None:
        if self._noticed:
            return
        self._noticed = True
        self._lifecycle.begin_drain()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        name, active = signal.Signals(number).name, self._lifecycle.active
        logger.info("%s: draining, %d in flight, %g s at most", name, active, self._timeout)
        self._timer = self._loop.call_later(self._timeout, self._end)

    def _end(self) -> None:
        if self._lifecycle.active:
            logger.warning("%d still in flight after %g s: cancelled", self._lifecycle.active, self._timeout)
            self._abandoning = self._loop.create_task(self._lifecycle.abandon())
        self._timer = self._loop.call_later(self._timeout, _let_through)

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


# What the process has of it: signals belong to the process, however many deployments it runs.
_watching: list[_Watch] = []
_notices: dict[int, _Notice] = {}
_held: set[int] = set()


@contextlib.contextmanager
def noticing_signals(lifecycle: Lifecycle, timeout: float) -> Iterator[None]:
    """Drain `lifecycle` when the process is told to stop while the block runs; `timeout` seconds until runs are cut.

    Enter it on the event loop. Several may be left in any order: with the last one the handlers are what they were
    before the first, unless somebody else has replaced them meanwhile. Outside the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(lifecycle, timeout)
    _watching.append(watch)
    _install()
    try:
        yield
    finally:
        watch.forget()
        _watching.remove(watch)
        if not _watching:
            _restore()
            _let_through()


def handler_behind(number: int) -> object:
    """Return the handler of a signal that is not ours: ours passes everything on to it."""
    handler: object = signal.getsignal(number)
    while isinstance(handler, _Notice):
        handler = handler.previous
    return handler


def _ends_by_signal(handler: Handler) -> bool:
    """Tell whether the handler's owner raises the signal again when it has stopped, to end the process by it.

    uvicorn does, with Python's own action put back, and then nothing more would run. A host that knows no lifespan
    events, as Django, has not stopped its deployments by then; the end of the event loop does. Held back until they
    have, or twice the time of a drain is over, the signal still ends the process. A second SIGTERM means nothing to
    uvicorn; a second SIGINT, by which it stops without waiting, is not held back.
    """
    return type(getattr(handler, "__self__", None)).__module__ == "uvicorn.server"


def _hold_back(number: int) -> None:
    _held.add(number)
    signal.pthread_sigmask(signal.SIG_BLOCK, (number,))  # of this thread, in which it is raised again


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _held)
    _held.clear()


def _install() -> None:
    for number in _SIGNALS:
        previous = signal.getsignal(number)
        if callable(previous) and previous is not _notices.get(number):
            _notices[number] = _Notice(previous)
            signal.signal(number, _notices[number])


def _restore() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # an event loop that was handed to another thread; the handlers that stay pass everything on
    for number, notice in _notices.items():
        current: object = signal.getsignal(number)
        if current is notice:
            signal.signal(number, notice.previous)
    _notices.clear()
