"""Serving with gunicorn: its parent process, whose workers are uvicorn's server with everything that is ours.

gunicorn forks, watches and kills workers. Where its own ways break a promise, ours replace them here:

- The socket is bound by us and listens when the first worker is ready, so a failing start accepts nothing.
- A reload starts the new workers and stops the old ones only when the new ones are ready; gunicorn's own tells the old
  ones at once, and ends the server when a new one fails.
- A stop drains also on SIGINT, waits as long as was promised, and its exit status is what the workers ended with.
- Workers show that they are alive from a thread, so neither a long start nor a blocked event loop gets them killed.
"""

import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from uvicorn_worker import UvicornWorker

from asgipipe import logs
from asgipipe.errors import ServerError
from asgipipe.servers import banner
from asgipipe.servers import specification as specifications
from asgipipe.servers.application import ServedApplication, create
from asgipipe.servers.drain import HURRY, RETIRE
from asgipipe.servers.fleet import Fleet
from asgipipe.servers.gunicorn_settings import checked_gunicorn_settings
from asgipipe.servers.handover import Handover
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.readiness import ReadyFile
from asgipipe.servers.terminal import Terminal
from asgipipe.servers.uvicorn import serve
from asgipipe.servers.worker import end, ignore_terminal

logger = logging.getLogger("asgipipe.servers")

_READY = struct.Struct("=id")
"""What a worker writes when it serves: its process id, and the seconds that it may take to end."""

_HEARTBEAT = 1.0
"""Seconds between two signs of life."""

_CLEAN_UP = 3.0
"""Seconds that the other workers have to clean up when one of them failed to start."""

_AGAIN = 5.0
"""Seconds after which workers that never served are told once more to stop."""

_RETIRING = 5.0
"""Seconds by which the end of a worker may be later when it retires than when it is told to stop."""


def run(handover: Handover, ready: ReadyFile) -> int:
    """Be gunicorn's parent process until told to stop; return the exit status.

    Raises ServerError when the workers did not start.
    """
    options, owner = handover.options, os.getpid()
    logs.configure(options.log_format, options.log_level)
    with handover.socket() as listener:
        application = _Application(options)
        arbiter = _Arbiter(application, handover, listener, ready)
        code: object = 0
        try:
            arbiter.run()
        except SystemExit as request:  # gunicorn's way out, also of a worker, which it has forked inside
            if os.getpid() != owner:
                raise
            code = request.code
    if arbiter.fleet.error is not None:
        raise ServerError(arbiter.fleet.error)
    return arbiter.fleet.status or int(bool(code))


class _Log(Logger):
    """gunicorn's log, written like the rest of the command's; what it says at INFO, our own lines say better."""

    def setup(self, cfg: Config) -> None:
        self.cfg = cfg
        level = logging.getLogger().level
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING if level == logging.INFO else level)


class _Application(BaseApplication):
    """What gunicorn loads in each worker, or once before the fork with `preload_app`."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self.ready_reader, self.ready_writer = os.pipe()
        os.set_blocking(self.ready_reader, False)
        super().__init__(prog="asgipipe")

    def load_config(self) -> None:
        settings = checked_gunicorn_settings(self._options)
        for name, value in {**settings, "worker_class": _Worker, "logger_class": _Log}.items():
            self.cfg.set(name, value)

    def load(self) -> tuple[ServedApplication, ServerOptions]:  # type: ignore[override]  # gunicorn only hands it on
        return create()


class _Worker(UvicornWorker):  # type: ignore[misc]  # it ships no types
    """A worker process, served by `serve` as those of our own supervisor are."""

    app: _Application
    wsgi: tuple[ServedApplication, ServerOptions]

    def init_process(self) -> NoReturn:
        end(self._process)

    def init_signals(self) -> None:
        super().init_signals()
        ignore_terminal()

    def run(self) -> NoReturn:
        application, options = self.wsgi
        sys.exit(serve(application, options, self.sockets[0], lambda: self._say_ready(options), supervised=True))

    def _process(self) -> int:
        threading.Thread(target=self._live, name="asgipipe-health", daemon=True).start()
        super().init_process()
        return 0

    def _live(self) -> None:
        """Show that the process is alive: as long as a thread of it can take the interpreter lock."""
        while os.getppid() == self.ppid:
            self.notify()
            time.sleep(_HEARTBEAT)
        # Without a parent nobody would ever stop this process.
        os.kill(os.getpid(), signal.SIGTERM)

    def _say_ready(self, options: ServerOptions) -> None:
        with suppress(OSError):  # the parent is gone; `_live` sees to it
            os.write(self.app.ready_writer, _READY.pack(os.getpid(), options.longest_stop))
            os.kill(self.ppid, signal.SIGCHLD)  # wakes the parent, which otherwise looks once in a second


class _Arbiter(Arbiter):
    """gunicorn's parent process, with a Fleet to decide who serves."""

    def __init__(
        self, application: _Application, handover: Handover, listener: socket.socket, ready: ReadyFile
    ) -> None:
        folder = str(handover.folder)
        self._handover = handover
        self._ready_file = ready
        self.fleet = Fleet[int](
            handover.options.workers,
            failure=lambda: specifications.reported_failure(folder),
            on_ready=self._announce,
        )
        self._ready_reader = application.ready_reader
        self._longest_stop = handover.options.longest_stop
        self._stop_within: dict[int, float] = {}
        self._kill_at: dict[int, float] = {}
        self._hurry = False
        self._retires = False
        self._terminal = Terminal()
        super().__init__(application)
        self.LISTENERS = [listener]  # type: ignore[list-item, misc]  # it needs no more of them than a socket has

    def _announce(self) -> None:
        banner.announce(self._handover.announcement, self._handover.options)
        self._ready_file.write()

    # One round of gunicorn's main loop, once a second and after every signal

    def manage_workers(self) -> None:
        self._hear()
        if self.fleet.error is not None:
            raise StopIteration  # gunicorn's way to say that it is over
        self.fleet.resize(self.num_workers)
        for _ in range(self.fleet.due()):
            self.fleet.started(self.spawn_worker())
        for pid, serves in self.fleet.dismissed():
            within = self._stop_within.get(pid, self._longest_stop)
            self._kill_at[pid] = time.monotonic() + within + _CLEAN_UP
            self.kill_worker(pid, RETIRE if serves and RETIRE is not None else signal.SIGTERM)
        self._kill_overdue()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while True:
                said = os.read(self._ready_reader, 64 * _READY.size)
                for pid, longest_stop in _READY.iter_unpack(said):
                    self._stop_within[pid] = longest_stop
                    if self.fleet.served:
                        logger.info("worker %s serves", pid)
                    self.fleet.became_ready(pid)

    def _kill_overdue(self) -> None:
        for pid, at in self._kill_at.items():
            if time.monotonic() >= at and pid in self.WORKERS:
                logger.error("worker %s does not end and is killed", pid)
                self.kill_worker(pid, signal.SIGKILL)

    def reap_workers(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)  # all children: in a container, also those of nobody else
                if not pid:
                    return
                worker = self.WORKERS.pop(pid, None)
                if worker is not None:
                    self._ended(pid, worker, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, worker: Worker, status: int) -> None:
        self._hear()
        self._stop_within.pop(pid, None)
        self._kill_at.pop(pid, None)
        worker.tmp.close()
        self.cfg.child_exit(self, worker)
        self.fleet.ended(pid, pid, status)

    # Signals

    def signal(self, sig: int, frame: FrameType | None) -> None:
        if self.fleet.stopping and sig in {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}:
            self._hurry = True
        else:
            super().signal(sig, frame)

    def handle_term(self) -> NoReturn:
        logger.info("stopping %d workers", len(self.WORKERS))
        raise StopIteration

    handle_int = handle_term

    def handle_quit(self) -> NoReturn:
        self._hurry = True
        raise StopIteration

    def handle_hup(self) -> None:
        if self._terminal.is_gone():
            self.handle_term()
        if self.cfg.preload_app:
            logger.warning(
                "preload_app: the new workers have the code and settings of now, which only a restart changes"
            )
        self.cfg.on_reload(self)
        self.fleet.reload()

    def handle_usr2(self) -> NoReturn:
        """End, and leave the rest to another command that listens on the same socket."""
        logger.info("retiring %d workers", len(self.WORKERS))
        self._retires = True
        raise StopIteration

    # The end

    def stop(self, graceful: bool = True) -> None:
        self.LISTENERS = []  # type: ignore[misc]  # workers answer 503 on it while they drain
        within = max([self._longest_stop, *self._stop_within.values()]) if self.fleet.error is None else _CLEAN_UP
        self.fleet.stop()
        for pid in list(self.WORKERS):
            retires = self._retires and self.fleet.serves(pid)
            self.kill_worker(pid, RETIRE if retires and RETIRE is not None else signal.SIGTERM)
        within += _RETIRING if self._retires else 0.0
        ends, hurried, again = time.monotonic() + within, False, time.monotonic() + _AGAIN
        while self.WORKERS and time.monotonic() < ends:
            if self._hurry and not hurried:
                logger.warning("told again: stopping now")
                self.kill_workers(HURRY)
                hurried = True
            if time.monotonic() >= again:
                # One that was only just forked still had the handlers of this process: what it was told then is lost.
                for pid in [pid for pid in self.WORKERS if not self.fleet.serves(pid)]:
                    self.kill_worker(pid, signal.SIGTERM)
                again += _AGAIN
            self.reap_workers()
            time.sleep(0.02)
        for pid in list(self.WORKERS):
            logger.error("worker %s does not end and is killed", pid)
            self.fleet.status = self.fleet.status or 1
            self.kill_worker(pid, signal.SIGKILL)
        while self.WORKERS:
            self.reap_workers()
            time.sleep(0.02)
