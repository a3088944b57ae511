"""The parent of worker processes: starts them, replaces those that die or hang, stops them, and tells the truth.

    starting ─► serving ─► stopping
        └── a worker fails before the first one served: all are stopped, exit status 3

Everything that can happen (a signal, a worker's message or end, a changed file) wakes one wait; nothing is polled. Only
bytes go through the pipes.
"""

import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType

from asgipipe.errors import ServerError
from asgipipe.servers.drain import HURRY
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.worker import PING, READY, STARTUP_FAILURE, work

logger = logging.getLogger("asgipipe.servers")

_SPAWN = multiprocessing.get_context("spawn")
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
_CLEAN_UP = 3.0
"""Seconds that the other workers have to clean up when one of them failed to start."""
_LONGEST_PAUSE = 10.0
"""Seconds between two attempts to replace a worker that keeps dying."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: for a worker to show that it is alive, and for one to end after it was told to."""

    health_check: float
    stop: float


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    asked_at: float | None = None
    heard_at: float = field(default_factory=monotonic)
    told_at: float | None = None
    kill_at: float | None = None

    def signal(self, number: int) -> None:
        if self.process.pid is not None and self.process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def tell_to_stop(self, within: float) -> None:
        self.kill_at = monotonic() + within
        self.signal(signal.SIGTERM)

    def next_check(self, health_check: float) -> float:
        """When to ask whether the worker is alive, or, when it was asked, when to stop believing it."""
        return self.heard_at + (health_check / 4 if self.asked_at is None else health_check)

    def close(self) -> None:
        self.connection.close()
        self.process.join()
        self.process.close()


class Supervisor:
    """Runs `options.workers` workers on `listener`; one that is started anew on each change when reloading.

    `failure` returns the message of a worker that failed to start, if there is one; `on_ready` is called once, when all
    workers serve.
    """

    def __init__(
        self,
        options: ServerOptions,
        listener: socket.socket,
        timings: Timings,
        *,
        failure: Callable[[], str | None],
        on_ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._listener = listener
        self._timings = timings
        self._failure = failure
        self._on_ready = on_ready
        self._workers: list[_Worker] = []
        self._wanted = options.workers
        self._served = False
        self._stopping = False
        self._changed = False
        self._status = 0
        self._error: str | None = None
        self._received: list[int] = []
        self._pause = 0.0
        self._start_at: float | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def changed(self) -> None:
        """Start the application anew; may be called from any thread."""
        self._changed = True
        with suppress(BlockingIOError):
            self._wake_writer.send(b"\0")

    def run(self) -> int:
        """Return the exit status of the command. Raises ServerError when the workers did not start."""
        previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        previous_wakeup = signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        try:
            self._start_missing()
            while self._workers or not self._stopping:
                self._wait()
        finally:
            signal.set_wakeup_fd(previous_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._kill_all()
            self._wake_reader.close()
            self._wake_writer.close()
        if self._error is not None:
            raise ServerError(self._error)
        return self._status

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)

    # One round

    def _wait(self) -> None:
        sentinels = {worker.process.sentinel: worker for worker in self._workers}
        connections = {worker.connection: worker for worker in self._workers if not worker.connection.closed}
        for source in wait([self._wake_reader, *sentinels, *connections], self._until_next()):
            if source is self._wake_reader:
                with suppress(BlockingIOError):
                    self._wake_reader.recv(4096)
            elif isinstance(source, Connection):
                self._hear(connections[source])
        while self._received:
            self._signalled(self._received.pop(0))
        for worker in list(self._workers):
            if not worker.process.is_alive():
                self._ended(worker)
        if self._changed and not self._stopping:
            self._restart()
        self._check_times()

    def _until_next(self) -> float | None:
        """Seconds until something has to be done without being woken."""
        times = [worker.kill_at for worker in self._workers if worker.kill_at is not None]
        if self._start_at is not None:
            times.append(self._start_at)
        if self._served and not self._stopping:
            times += [worker.next_check(self._timings.health_check) for worker in self._workers]
        return max(0.0, min(times) - monotonic()) if times else None

    def _check_times(self) -> None:
        now = monotonic()
        for worker in self._workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                logger.error("worker %s does not end and is killed", worker.process.pid)
                worker.kill_at = None
                worker.process.kill()
                self._status = self._status or 1
            elif self._served and not self._stopping:
                self._ask(worker, now)
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._start_missing()

    # Health

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv_bytes(16)
        except (EOFError, OSError):
            worker.connection.close()
            return
        worker.heard_at = monotonic()
        worker.asked_at = None
        if message == READY:
            self._became_ready(worker)

    def _ask(self, worker: _Worker, now: float) -> None:
        if now < worker.next_check(self._timings.health_check) or worker.connection.closed:
            return
        if worker.asked_at is None:
            worker.asked_at = now
            with suppress(OSError):
                worker.connection.send_bytes(PING)
        else:
            logger.error("worker %s was silent for %g s and is killed", worker.process.pid, now - worker.heard_at)
            worker.heard_at = now
            worker.process.kill()

    def _became_ready(self, worker: _Worker) -> None:
        worker.ready = True
        self._pause = 0.0
        if not self._served and all(each.ready for each in self._workers):
            self._served = True
            self._on_ready()
        elif self._served:
            logger.info("worker %s serves", worker.process.pid)

    # Beginnings and ends

    def _start_missing(self) -> None:
        while len(self._workers) < self._wanted and not self._stopping:
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=work, args=(self._options, self._listener, theirs), name="asgipipe-worker")
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _ended(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        pid, status = worker.process.pid, worker.process.exitcode
        worker.close()
        if self._stopping:
            self._status = self._status or (1 if status else 0)
        elif self._options.reload:
            self._ended_while_reloading(worker, status)
        elif not self._served or (status == STARTUP_FAILURE and not self._workers):
            self._fail(status)
        else:
            if status:
                logger.error("worker %s ended with status %s and is replaced", pid, status)
                self._say_failure()
            self._start_at = monotonic() + self._pause
            self._pause = min(max(1.0, 2 * self._pause), _LONGEST_PAUSE)

    def _fail(self, status: int | None) -> None:
        """Stop everything: a worker failed before anything was served, or there is none left that works."""
        reported = self._failure()
        self._error = reported or f"a worker process ended with status {status} while it was starting"
        self._stop(_CLEAN_UP)

    def _say_failure(self) -> None:
        reported = self._failure()
        if reported is not None:
            logger.error("%s", reported)

    def _stop(self, within: float) -> None:
        self._stopping = True
        self._start_at = None
        for worker in self._workers:
            worker.tell_to_stop(within)

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.close()
        self._workers.clear()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stopping:
            logger.info("%s: stopping %d workers", name, len(self._workers))
            self._stop(self._timings.stop)
            return
        logger.warning("%s again: stopping now", name)
        for worker in self._workers:
            worker.signal(HURRY)

    # Reloading

    def _restart(self) -> None:
        self._changed = False
        logger.info("files changed: starting anew")
        if not self._workers:
            self._start_missing()
        for worker in self._workers:
            worker.told_at = monotonic()
            worker.tell_to_stop(self._timings.stop)

    def _ended_while_reloading(self, worker: _Worker, status: int | None) -> None:
        if worker.told_at is not None:
            self._start_missing()
            return
        self._say_failure()
        logger.error("the application ended with status %s; it is started anew when a file changes", status)
