"""The parent of worker processes: starts them, replaces those that die or hang, stops them, and tells the truth.

    starting ─► serving ─► stopping
        │          └── SIGHUP: settings and code are read again by new workers, which take the place of the old ones
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
from asgipipe.servers.drain import HURRY, RETIRE
from asgipipe.servers.fleet import Fleet
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.terminal import Terminal
from asgipipe.servers.worker import PING, READY, work

logger = logging.getLogger("asgipipe.servers")

_SPAWN = multiprocessing.get_context("spawn")
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_CLEAN_UP = 3.0
"""Seconds that the other workers have to clean up when one of them failed to start."""
_RETIRING = 5.0
"""Seconds by which the end of a worker that others replace may be later than that of one that is told to stop."""


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    longest_stop: float
    asked_at: float | None = None
    heard_at: float = field(default_factory=monotonic)
    told_at: float | None = None
    kill_at: float | None = None

    def signal(self, number: int) -> None:
        if self.process.pid is not None and self.process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def tell_to_stop(self, within: float | None = None) -> None:
        self.kill_at = monotonic() + (self.longest_stop if within is None else within)
        self.signal(signal.SIGTERM)

    def tell_to_retire(self) -> None:
        """Tell a worker that serves to leave the rest to others."""
        self.kill_at = monotonic() + self.longest_stop + _RETIRING
        self.signal(signal.SIGTERM if RETIRE is None else RETIRE)

    def next_check(self, health_check: float) -> float:
        """When to ask whether the worker is alive, or, when it was asked, when to stop believing it."""
        return self.heard_at + (health_check / 4 if self.asked_at is None else health_check)

    def close(self) -> None:
        self.connection.close()
        self.process.join()
        self.process.close()


class Supervisor:
    """Runs `options.workers` workers on `listener`; one that is started anew on each change when reloading.

    Without a listener they serve nobody, and run jobs only.

    `health_check` is the seconds in which a worker must show that it is alive. `failure` returns the message of a
    worker that failed to start, if there is one; `on_ready` is called once, when all workers serve.
    """

    def __init__(
        self,
        options: ServerOptions,
        listener: socket.socket | None,
        *,
        health_check: float,
        failure: Callable[[], str | None],
        on_ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._listener = listener
        self._health_check = health_check
        self._failure = failure
        self._fleet = Fleet[_Worker](options.workers, failure=failure, on_ready=on_ready)
        self._terminal = Terminal()
        self._workers: list[_Worker] = []
        self._changed = False
        self._received: list[int] = []
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
            self._start_due()
            while self._workers or not self._fleet.stopping:
                self._wait()
        finally:
            signal.set_wakeup_fd(previous_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._kill_all()
            self._wake_reader.close()
            self._wake_writer.close()
        if self._fleet.error is not None:
            raise ServerError(self._fleet.error)
        return self._fleet.status

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
        if self._changed and not self._fleet.stopping:
            self._restart()
        self._check_times()
        if not self._options.reload:
            self._start_due()
        self._dismiss()

    def _until_next(self) -> float | None:
        """Seconds until something has to be done without being woken."""
        times = [worker.kill_at for worker in self._workers if worker.kill_at is not None]
        if self._fleet.next_start is not None and not self._options.reload:
            times.append(self._fleet.next_start)
        if self._fleet.served and not self._fleet.stopping:
            times += [worker.next_check(self._health_check) for worker in self._workers]
        return max(0.0, min(times) - monotonic()) if times else None

    def _check_times(self) -> None:
        now = monotonic()
        for worker in self._workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                logger.error("worker %s does not end and is killed", worker.process.pid)
                worker.kill_at = None
                worker.process.kill()
                self._fleet.status = self._fleet.status or int(self._fleet.stopping)
            elif self._fleet.served and not self._fleet.stopping:
                self._ask(worker, now)

    # Health

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv_bytes(64)
        except (EOFError, OSError):
            worker.connection.close()
            return
        worker.heard_at = monotonic()
        worker.asked_at = None
        if message.startswith(READY):
            worker.longest_stop = float(message.removeprefix(READY))
            self._became_ready(worker)

    def _hear_last(self, worker: _Worker) -> None:
        """Read what it said before its end: whether it was ready decides what that end means."""
        with suppress(OSError):
            while not worker.connection.closed and worker.connection.poll():
                self._hear(worker)

    def _ask(self, worker: _Worker, now: float) -> None:
        if now < worker.next_check(self._health_check) or worker.connection.closed:
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
        if self._fleet.served:
            logger.info("worker %s serves", worker.process.pid)
        self._fleet.became_ready(worker)

    # Beginnings and ends

    def _start_due(self) -> None:
        for _ in range(self._fleet.due()):
            self._start()

    def _start(self) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=work, args=(self._options, self._listener, theirs), name="asgipipe-worker")
        process.start()
        theirs.close()
        worker = _Worker(process, ours, self._options.longest_stop)
        self._workers.append(worker)
        self._fleet.started(worker)

    def _dismiss(self) -> None:
        for worker, serves in self._fleet.dismissed():
            if serves:
                worker.tell_to_retire()
            else:
                worker.tell_to_stop()

    def _ended(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        pid, status = worker.process.pid, worker.process.exitcode
        self._hear_last(worker)
        worker.close()
        if self._options.reload and not self._fleet.stopping:
            self._fleet.forget(worker)
            self._ended_while_reloading(worker, status)
            return
        self._fleet.ended(worker, pid, status)
        if self._fleet.error is not None and not self._fleet.stopping:
            self._stop(_CLEAN_UP)

    def _stop(self, within: float | None = None) -> None:
        self._fleet.stop()
        for worker in self._workers:
            worker.tell_to_stop(within)

    def _retire(self) -> None:
        """End, and leave the rest to another command that listens on the same socket."""
        logger.info("retiring %d workers", len(self._workers))
        self._fleet.stop()
        for worker in self._workers:
            if self._fleet.serves(worker):
                worker.tell_to_retire()
            else:
                worker.tell_to_stop()

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.close()
        self._workers.clear()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._fleet.stopping:
            logger.warning("%s again: stopping now", name)
            for worker in self._workers:
                worker.signal(HURRY)
        elif name == "SIGHUP" and not self._terminal.is_gone():
            self._reload()
        elif number == RETIRE:
            self._retire()
        else:
            logger.info("%s: stopping %d workers", name, len(self._workers))
            self._stop()

    # Reloading

    def _reload(self) -> None:
        if self._options.reload:
            self._changed = True
        else:
            self._fleet.reload()

    def _restart(self) -> None:
        """Start the only worker anew, at once: whoever edits wants to see the change, not what was before it."""
        self._changed = False
        logger.info("files changed: starting anew")
        if not self._workers:
            self._start()
        for worker in self._workers:
            worker.told_at = monotonic()
            worker.tell_to_stop()

    def _ended_while_reloading(self, worker: _Worker, status: int | None) -> None:
        if worker.told_at is not None:
            self._start()
            return
        reported = self._failure()
        if reported is not None:
            logger.error("%s", reported)
        logger.error("the application ended with status %s; it is started anew when a file changes", status)
