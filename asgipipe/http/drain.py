"""Draining where the server is somebody else's: its stop is noticed, and nothing stands in its way.

    signal ─► refuse new runs (503, Retry-After; /ready is 503)
           ─► the handler that was there before, at once
           ─► `drain_timeout` later, cancel what still runs

A deployment that a request started has nobody to stop it: its host knows no lifespan events, as Django. So it stops
itself, and the handler that was there before is called when it has; a second signal goes to that at once.

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
from asgipipe.pipelines.execution import traceback_of

logger = logging.getLogger("asgipipe")

ABANDON_TIME = 0.3
"""Seconds that cancelled runs have to answer their clients."""

_SIGNALS = (int(signal.SIGTERM), int(signal.SIGINT))

Handler = Callable[[int, FrameType | None], object]


class _Notice:
    """The handler of one signal: tells every deployment that runs, then calls the handler in front of which it stands.

    It keeps what it stands in front of, so somebody who stands in front of it in turn may keep it for ever.
    """

    def __init__(self, previous: Handler) -> None:
        self.previous = previous
        self._task: asyncio.Task[None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        alone = [watch for watch in tuple(_watching) if watch.notice(number) and watch.is_alone]
        if alone:
            alone[0].loop.call_soon_threadsafe(self._stop, alone, number)
        else:
            self.previous(number, frame)

    def _stop(self, alone: "list[_Watch]", number: int) -> None:
        self._task = alone[0].loop.create_task(self._pass_on(alone, number))

    async def _pass_on(self, alone: "list[_Watch]", number: int) -> None:
        for watch in alone:
            await watch.stop()
        self.previous(number, None)


class _Watch:
    """One running deployment."""

    def __init__(self, lifecycle: Lifecycle, timeout: float) -> None:
        self._lifecycle = lifecycle
        self._timeout = timeout
        self._noticed = False
        self._timer: asyncio.TimerHandle | None = None
        self._abandoning: asyncio.Task[None] | None = None
        self.loop = asyncio.get_running_loop()

    @property
    def is_alone(self) -> bool:
        """True when nobody but a request has started the deployment."""
        return not self._lifecycle.held

    def notice(self, number: int) -> bool:
        """Begin to drain, and return True; False when that has happened, or there is no event loop any more."""
        if self._noticed or self.loop.is_closed():
            return False
        self._noticed = True
        self._lifecycle.begin_drain()
        self.loop.call_soon_threadsafe(self._begin, number)
        return True

    async def stop(self) -> None:
        """Wait until nothing is in flight, or what is has been cancelled, and stop the deployment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout + ABANDON_TIME):
                await self._lifecycle.drained()
        try:
            await self._lifecycle.stop()
        except Exception as error:  # boundary: hooks are user code; the process is to end all the same
            logger.error("a deployment did not stop cleanly\n%s", traceback_of(error))

    def _begin(self, number: int) -> None:
        name, active = signal.Signals(number).name, self._lifecycle.active
        logger.info("%s: draining, %d in flight, %g s at most", name, active, self._timeout)
        self._timer = self.loop.call_later(self._timeout, self._end)

    def _end(self) -> None:
        if self._lifecycle.active:
            logger.warning("%d still in flight after %g s: cancelled", self._lifecycle.active, self._timeout)
            self._abandoning = self.loop.create_task(self._lifecycle.abandon())

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


# What the process has of it: signals belong to the process, however many deployments it runs.
_watching: list[_Watch] = []
_notices: dict[int, _Notice] = {}


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


def handler_behind(number: int) -> object:
    """Return the handler of a signal that is not ours: ours passes everything on to it."""
    handler: object = signal.getsignal(number)
    while isinstance(handler, _Notice):
        handler = handler.previous
    return handler


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
