"""Telling of commits that others have made to an SQLite file."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from asgipipe.stores.database import Transaction
from asgipipe.stores.inbox import FutureTicket
from asgipipe.stores.lane import Lane
from asgipipe.stores.sqlite.connection import SQLiteConnection

logger = logging.getLogger(__name__)

_ANSWER = 0.05
"""Seconds that the writer has to say what is new to it; if it takes longer, something is taken to be."""


class Watcher:
    """One thread, which lives while somebody watches, asks every `interval` seconds whether anything has changed.

    A look costs a few microseconds, and no disk. What `writer` commits is passed over: those who watch know of that,
    and each call would have a busy event loop ask the store for nothing.
    """

    def __init__(self, connect: Callable[[], SQLiteConnection], writer: Lane, interval: float) -> None:
        self._connect = connect
        self._writer = writer
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
        others: Others | None = None
        failing = False
        try:
            while not stop.is_set():
                try:
                    others = others or Others(self._connect(), self._writer)
                    changed, failing = others.have_committed(), False
                except Exception as error:  # boundary: it goes on looking, whatever the database says
                    logger.debug("changes of the store cannot be seen: %s", error)
                    changed, failing = not failing, True
                    if others is not None:
                        others.close()
                        others = None
                if changed:
                    self._tell()
                stop.wait(self._interval)
        finally:
            if others is not None:
                others.close()
            end.set_result(None)

    def _tell(self) -> None:
        with self._lock:
            callbacks = list(self._watching.values())
        for changed in callbacks:
            try:
                changed()
            except Exception:  # boundary: a callback is anybody's code, and the others want to be called, too
                logger.exception("a watcher of the store failed")


class Others:
    """Tells whether anybody but the writer has committed since the last look, or may have; used by one thread.

    To the writer's own connection its commits are nothing new. But to ask it takes the lock that all who write share:
    it is asked only when it may be the one whose commit was seen.
    """

    def __init__(self, connection: SQLiteConnection, writer: Lane) -> None:
        self._connection = connection
        self._inbox = writer.inbox
        self._seen: int | None = None
        self._known: object = None
        self._taken = -1
        self._wrote = True

    def have_committed(self) -> bool:
        # A commit that is seen now was under way before this look, or is of a group that was taken since the last one,
        # or was under way at that look, just after it.
        writes = not self._inbox.idle
        version = self._connection.version()
        taken = self._inbox.taken
        wrote, self._wrote = self._wrote, writes or taken != self._taken
        self._taken = taken
        if version == self._seen:
            return False
        self._seen = version
        return not (wrote or self._wrote) or self._is_new_to_writer()

    def close(self) -> None:
        self._connection.close()

    def _is_new_to_writer(self) -> bool:
        ticket = FutureTicket(_known)
        try:
            self._inbox.put(ticket, urgent=True)
            known = ticket.future.result(_ANSWER)
        except Exception as error:  # boundary: whatever keeps it from answering, somebody may have committed
            logger.debug("the writer of the store does not say what it knows: %s", error)
            return True
        before, self._known = self._known, known
        return known != before


def _known(transaction: Transaction) -> object:
    """Return what differs when others have committed, or there is another connection."""
    return transaction, transaction.rows("PRAGMA data_version")
