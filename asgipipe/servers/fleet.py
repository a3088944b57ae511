"""Which worker processes serve, which are to follow them, and which are on their way out; no process is touched here.

    started ─► ready, serving ─► leaving ─► gone
       │
       └── reload: a whole new generation is started beside the one that serves. When all of it is ready, the old one
           leaves; when one of it fails to start, the new one leaves and the old one serves on.

A worker that ends by itself is replaced, later and later when that goes on. When one of the first fails before it has
served, or none is left that works, everything ends.
"""

import logging
import signal
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from asgipipe.servers.worker import STARTUP_FAILURE

logger = logging.getLogger("asgipipe.servers")

_LONGEST_PAUSE = 10.0
"""Seconds between two attempts to replace a worker that keeps dying."""

W = TypeVar("W")


class Fleet(Generic[W]):
    """The workers of one server command; `W` is whatever its parent process knows a worker by.

    `failure` returns the message of a worker that failed to start, if it left one; `on_ready` is called once, when all
    workers serve. `error` is why nothing can be served; `status` is the exit status of the command.
    """

    def __init__(self, wanted: int, *, failure: Callable[[], str | None], on_ready: Callable[[], None]) -> None:
        self.wanted = wanted
        self.served = False
        self.error: str | None = None
        self.status = 0
        self._stopping = False
        self._failure = failure
        self._on_ready = on_ready
        self._serving: list[W] = []
        self._coming: list[W] = []
        self._ready: set[W] = set()
        self._dismissed: list[W] = []
        self._reloading = False
        self._again = False
        self._pause = 0.0
        self._not_before = 0.0

    @property
    def stopping(self) -> bool:
        return self._stopping

    def due(self) -> int:
        """Return how many workers are to be started now."""
        return self._missing() if self._reloading or monotonic() >= self._not_before else 0

    @property
    def next_start(self) -> float | None:
        """When workers are to be started, on the clock of `monotonic`; None when none is missing."""
        if not self._missing():
            return None
        return 0.0 if self._reloading else self._not_before

    def _missing(self) -> int:
        if self._stopping:
            return 0
        return max(0, self.wanted - len(self._coming if self._reloading else self._serving))

    def dismissed(self) -> list[tuple[W, bool]]:
        """Return the workers that are to leave since the last call, each with whether it serves."""
        told, self._dismissed = self._dismissed, []
        return [(worker, worker in self._ready) for worker in told]

    def started(self, worker: W) -> None:
        (self._coming if self._reloading else self._serving).append(worker)

    def forget(self, worker: W) -> None:
        """Leave `worker`, which has ended, to whoever asks; nothing is made of its end."""
        self._serving.remove(worker)
        self._ready.discard(worker)

    def became_ready(self, worker: W) -> None:
        self._ready.add(worker)
        self._pause = 0.0
        if self._reloading and len(self._coming) >= self.wanted and self._ready.issuperset(self._coming):
            logger.info("reloaded: %d new workers serve, those before them finish what they have begun", self.wanted)
            self._dismissed += self._serving
            self._serving, self._coming = self._coming, []
            self._reload_is_over(self._again)
        elif not self.served and len(self._serving) >= self.wanted and self._ready.issuperset(self._serving):
            self.served = True
            self._on_ready()
            self._reload_is_over(self._again)

    def reload(self) -> None:
        """Replace all workers by new ones; while others are starting already, once those serve."""
        if self._reloading or not self.served:
            self._again = True
        else:
            logger.info("reloading: starting %d new workers", self.wanted)
            self._reloading = True

    def resize(self, wanted: int) -> None:
        """Have `wanted` workers from now on; the oldest of too many leave."""
        self.wanted = wanted
        if not self._reloading:
            surplus = max(0, len(self._serving) - wanted)
            self._dismissed += self._serving[:surplus]
            del self._serving[:surplus]

    def stop(self) -> None:
        """Start no more workers; how those that there are end decides about the status."""
        self._stopping = True

    def serves(self, worker: W) -> bool:
        """Say whether a worker has said that it serves, and so understands that it is to retire."""
        return worker in self._ready

    def ended(self, worker: W, pid: int | None, status: int | None) -> None:
        """Note that a process has ended, with `status` or, when it is negative, by that signal."""
        was_ready = worker in self._ready
        self._ready.discard(worker)
        if worker in self._dismissed:  # before it was told to leave
            self._dismissed.remove(worker)
        if self._stopping:
            # The signal to stop kills only before anything was opened, or after everything was closed.
            self.status = self.status or int(status not in {None, 0, -signal.SIGTERM})
        elif worker in self._coming:
            self._give_up_reload(worker, pid, status)
        elif worker in self._serving:
            self._serving.remove(worker)
            self._lost(pid, status, was_ready)
        elif status and was_ready:
            logger.warning("worker %s, which others have replaced, ended with status %s", pid, status)

    def _lost(self, pid: int | None, status: int | None, was_ready: bool) -> None:
        failed = status == STARTUP_FAILURE and not self._serving
        if failed or not (self.served or was_ready):
            if self.error is None:  # several may have ended before anyone looked: the first one's message stands
                self.error = self._failure() or f"a worker process ended with status {status} while it was starting"
            self.status = STARTUP_FAILURE
            return
        if status:
            logger.error("worker %s ended with status %s and is replaced", pid, status)
            reported = self._failure()
            if reported is not None:
                logger.error("%s", reported)
        self._not_before = monotonic() + self._pause
        self._pause = min(max(1.0, 2 * self._pause), _LONGEST_PAUSE)

    def _give_up_reload(self, worker: W, pid: int | None, status: int | None) -> None:
        reason = self._failure() or f"worker {pid} ended with status {status}"
        logger.error("the reload is given up, and the workers before it serve on: %s", reason)
        self._coming.remove(worker)
        self._dismissed += self._coming
        self._coming = []
        self._reload_is_over(self._again)

    def _reload_is_over(self, again: bool) -> None:
        self._reloading = self._again = False
        if again:
            self.reload()
