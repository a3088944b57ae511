"""Telling of commits that other connections have made to an SQLite file."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from asgipipe.stores.lane import Connection

logger = logging.getLogger(__name__)


class Watcher:
    """One thread, which lives while somebody watches, asks every `interval` seconds whether anything has changed.

    SQLite's `data_version` differs, on one connection, whenever another connection has committed: a look costs a few
    microseconds, and no disk.
    """

    def __init__(self, connect: Callable[[], Connection], interval: float) -> None:
        self._connect = connect
        self._interval = interval
        self._lock = threading.Lock()
        self._watching: dict[object, Callable[[], None]] = {}
        self._stop: threading.Event | None = None
        self._ends: list[Future[None]] = []

    def add(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after changes, and once at first; return what ends it."""
        key = object()
        with self._lock:
            self._watching[key] = changed
            if self._stop is None:
                self._stop = threading.Event()
                self._start(self._stop)

        def end() -> None:
            with self._lock:
                self._watching.pop(key, None)
                if not self._watching:
                    self._end()

        return end

    async def close(self) -> None:
        """End it for all."""
        with self._lock:
            self._watching.clear()
            self._end()
        for end in self._ends:
            await asyncio.wrap_future(end)

    def _start(self, stop: threading.Event) -> None:
        end: Future[None] = Future()
        self._ends = [*(end for end in self._ends if not end.done()), end]
        threading.Thread(target=self._work, args=(stop, end), name="asgipipe-store-watch", daemon=True).start()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _work(self, stop: threading.Event, end: "Future[None]") -> None:
        connection: Connection | None = None
        seen: object = None
        try:
            while not stop.is_set():
                try:
                    connection = connection or self._connect()
                    version = _version(connection)
                except Exception as error:  # boundary: it goes on looking, whatever the database says
                    logger.debug("changes of the store cannot be seen: %s", error)
                    version = None
                    if connection is not None:
                        connection.close()
                        connection = None
                if version != seen:
                    seen = version
                    self._tell()
                stop.wait(self._interval)
        finally:
            if connection is not None:
                connection.close()
            end.set_result(None)

    def _tell(self) -> None:
        with self._lock:
            callbacks = list(self._watching.values())
        for changed in callbacks:
            try:
                changed()
            except Exception:  # boundary: a callback is anybody's code, and the others want to be called, too
                logger.exception("a watcher of the store failed")


def _version(connection: Connection) -> object:
    connection.begin()
    row = connection.row("PRAGMA data_version")
    connection.commit()
    return row
