"""What goes on all the time: hearing of the commits of others, and saying that the workers of this process live."""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from psycopg import Notify

from asgipipe.stores.laned import ended
from asgipipe.stores.postgresql import liveness, tables
from asgipipe.stores.postgresql.connection import Connection
from asgipipe.stores.postgresql.link import Link
from asgipipe.stores.postgresql.server import Server

logger = logging.getLogger(__name__)

_PAUSE = 0.3
"""Seconds before another connection is tried."""
_REST = 0.02
"""Seconds between looks, at least, however often the store changes."""


class Attendant:
    """One thread and one connection, which is replaced when it breaks; both are there from the first need on.

    While there is no connection, those who watch are called at every try: nobody knows what they miss.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._limits = server.limits
        self._lock = threading.Lock()
        self._watching: dict[object, Callable[[], None]] = {}
        self._signs = Signs(server.limits.lifetime, clock)
        self._heard = False
        self._closing = False
        self._bell: Bell | None = None
        self._end: Future[None] = Future()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        key = object()
        with self._lock:
            self._watching[key] = changed
            self._start()

        def end() -> None:
            with self._lock:
                self._watching.pop(key, None)

        return end

    def renew(self, worker: int, since: float) -> None:
        """Renew the sign of life of a worker from now on; `since` is a time of the clock before it was first given."""
        with self._lock:
            self._signs.add(worker, since)
            self._start()

    def lost(self) -> set[int]:
        """Return the workers of this process whose sign of life came too late."""
        with self._lock:
            return self._signs.lost()

    async def close(self) -> None:
        """Tell that the workers have ended, and end the thread."""
        with self._lock:
            self._closing = True
            self._watching.clear()
            if self._bell is None:
                return
            self._bell.ring()
        if await ended([self._end]):
            self._thread.join()

    def _start(self) -> None:
        if self._bell is None and not self._closing:
            self._bell = Bell()
            self._thread = threading.Thread(
                target=self._work, args=(self._bell,), name="asgipipe-store-attendant", daemon=True
            )
            self._thread.start()

    def _work(self, bell: "Bell") -> None:
        try:
            while not self._closing:
                try:
                    self._attend(bell)
                except Exception as error:  # boundary: workers live by this thread, whatever the database says
                    logger.debug("the store tells nothing: %s", self._server.described(error))
                    self._tell()
                    bell.wait(_PAUSE)
        finally:
            bell.close()
            self._end.set_result(None)

    def _attend(self, bell: "Bell") -> None:
        """Listen until the end, or until the connection breaks."""
        link = self._server.connect()
        try:
            link.add_notify_handler(self._hear)
            link.execute(f"LISTEN {tables.channel(link)}")
            self._tell()
            renewal = 0.0
            while not self._closing:
                now = time.monotonic()
                if now >= renewal:
                    self._give_signs(link)
                    renewal = now + self._limits.renewal
                # Proves that the other end still lives; with the answer, psycopg hands over what else has come.
                link.execute("SELECT 1")
                if self._heard:
                    self._heard = False
                    self._tell()
                # It hears of the commits of this process, too, which may be hundreds a second.
                bell.wait(_REST)
                bell.wait(min(self._limits.look, self._limits.renewal), link)
            self._sign_off(link)
        finally:
            self._server.release(link)

    def _hear(self, notification: Notify) -> None:
        self._heard = self._heard or notification.pid not in self._server.backends

    def _tell(self) -> None:
        with self._lock:
            callbacks = list(self._watching.values())
        for changed in callbacks:
            try:
                changed()
            except Exception:  # boundary: a callback is anybody's code, and the others want to be called, too
                logger.exception("a watcher of the store failed")

    def _give_signs(self, link: Link) -> None:
        with self._lock:
            self._signs.lost()
            living = self._signs.living()
            now = self._signs.clock()
        if not living:
            return
        in_time = liveness.renew(Connection(link, self._server, None), living, self._limits.lifetime)
        with self._lock:
            self._signs.renewed(living, in_time, now)

    def _sign_off(self, link: Link) -> None:
        with self._lock:
            living = self._signs.living()
        if living:
            liveness.remove(Connection(link, self._server, None), living)


class Signs:
    """When the workers of this process gave their last sign of life; used under a lock."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lifetime = lifetime
        self._given: dict[int, float] = {}
        self._lost: set[int] = set()

    def add(self, worker: int, at: float) -> None:
        self._given[worker] = at

    def living(self) -> set[int]:
        return set(self._given)

    def lost(self) -> set[int]:
        """Return those whose sign came too late: also when the database could not be asked."""
        now = self.clock()
        self._lose({worker for worker, at in self._given.items() if now - at > self._lifetime})
        return set(self._lost)

    def renewed(self, asked: set[int], in_time: set[int], at: float) -> None:
        self._lose(asked - in_time)
        self._given |= dict.fromkeys(in_time & self._given.keys(), at)

    def _lose(self, workers: set[int]) -> None:
        for worker in workers & self._given.keys():
            del self._given[worker]
            self._lost.add(worker)


class Bell:
    """Ends a wait in another thread."""

    def __init__(self) -> None:
        self._ringing, self._hearing = socket.socketpair()

    def ring(self) -> None:
        self._ringing.send(b"\0")

    def wait(self, seconds: float, link: Link | None = None) -> None:
        """Wait until it rings, something comes over `link`, or `seconds` are over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._hearing, selectors.EVENT_READ)
            if link is not None:
                selector.register(link.fileno(), selectors.EVENT_READ)
            selector.select(seconds)

    def close(self) -> None:
        self._ringing.close()
        self._hearing.close()
