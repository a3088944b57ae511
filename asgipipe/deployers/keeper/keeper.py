"""Keeping one server: from its socket to its last line.

    listener: taken over, or bound ─► server started ─► waits for output, successors, signals ─► server ended ─► record

Everything that can happen wakes one wait. Told to stop, or to retire, the keeper passes that on and lets the listener
go; it ends when all processes of its session have, with the server's exit status.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from asgipipe.deployers.identity import this_process
from asgipipe.deployers.keeper.handing_over import Offer, taken_over
from asgipipe.deployers.keeper.output import Lines, RotatingLog
from asgipipe.deployers.keeper.ports import PortClaim, PortRange, bound
from asgipipe.deployers.keeper.state import INSTANCE, Address, StateFolder
from asgipipe.errors import DeploymentError
from asgipipe.servers.drain import RETIRE
from asgipipe.servers.readiness import VARIABLE as READY_FILE
from asgipipe.servers.sockets import LISTENER

_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2")
_LAST_OF_ALL = {"SIGTERM", "SIGINT", "SIGUSR2"}
"""After these the server takes no new connections for long."""

_LEFTOVERS = 5.0
"""Seconds that other processes of a server may outlive it."""
_CHUNK = 65536
_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux's prctl.h."""


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """What a keeper is started with.

    `ports` are tried when `port` is taken; None: that is an error. `take_over` and `offer` are the Unix sockets of the
    keeper before this one, and of this one. With `log_files` 0 the server writes to where the keeper writes.
    """

    state: StateFolder
    host: str
    port: int
    ports: PortRange | None
    take_over: Path | None
    offer: Path | None
    log_max_bytes: int
    log_files: int
    command: Sequence[str]


class Keeper:
    """Keeps one server. Use it once, in the main thread of a process that does nothing else."""

    def __init__(self, options: KeeperOptions) -> None:
        self._options = options
        self._state = options.state
        self._selector = selectors.DefaultSelector()
        self._log: RotatingLog | None = None
        self._lines: Lines | None = None
        if options.log_files:
            self._log = RotatingLog(options.state.log, max_bytes=options.log_max_bytes, files=options.log_files)
            self._lines = Lines(self._log)
        self._claim = PortClaim()
        self._listener: socket.socket | None = None
        self._offer: Offer | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self._told: str | None = None
        self._received: list[int] = []

    def run(self) -> int:
        """Return the exit status of the server, as a shell has it. Raises DeploymentError when it was not started."""
        self._state.write_identity(this_process())
        with contextlib.closing(self._selector), self._listening_to_signals():
            try:
                self._open()
                self._start()
                while self._status is None:
                    self._wait(None)
            finally:
                self._let_go()
                self._end_leftovers()
                self._close()
        assert self._status is not None
        status = self._status if self._status >= 0 else 128 - self._status
        self._state.write_exit(status, _reason(self._status, self._told), self._told)
        return status

    # The beginning

    def _open(self) -> None:
        self._listener = self._taken_over() or bound(
            self._options.host, self._options.port, self._options.ports, self._claim
        )
        self._state.write_address(Address(self._options.host, self._listener.getsockname()[1]))
        if self._options.offer is not None:
            try:
                self._offer = Offer(self._options.offer, self._listener)
            except OSError as error:
                raise DeploymentError(f"cannot listen on {self._options.offer}: {error.strerror}") from error
            self._selector.register(self._offer, selectors.EVENT_READ, self._offer.answer)

    def _taken_over(self) -> socket.socket | None:
        if self._options.take_over is None:
            return None
        try:
            return taken_over(self._options.take_over)
        except OSError as error:  # the one before has ended meanwhile: its address is free
            self._say(f"the keeper before this one gives no listener ({error}): a new one is bound")
            return None

    def _start(self) -> None:
        assert self._listener is not None
        descriptor = self._listener.fileno()
        variables = {
            INSTANCE: str(self._state.path),
            LISTENER: str(descriptor),
            READY_FILE: str(self._state.ready),
        }
        piped = None if self._lines is None else subprocess.PIPE
        try:
            self._server = subprocess.Popen(  # noqa: S603  # the command that the deployer gave
                self._options.command,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=piped,
                stderr=None if self._lines is None else subprocess.STDOUT,
                pass_fds=[descriptor],
                bufsize=0,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509  # there are no threads here
            )
        except OSError as error:
            raise DeploymentError(f"{self._options.command[0]} cannot be run: {error.strerror}") from error
        if self._server.stdout is not None:
            os.set_blocking(self._server.stdout.fileno(), False)
            self._selector.register(self._server.stdout, selectors.EVENT_READ, self._read)

    # What happens

    @contextlib.contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        reader, writer = socket.socketpair()
        with contextlib.closing(reader), contextlib.closing(writer):
            for end in (reader, writer):
                end.setblocking(False)
            numbers = [getattr(signal, name) for name in (*_FORWARDED, "SIGCHLD")]
            previous = {number: signal.signal(number, self._note) for number in numbers}
            previous_wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            self._selector.register(reader, selectors.EVENT_READ, lambda: _empty(reader))
            try:
                yield
            finally:
                self._selector.unregister(reader)
                signal.set_wakeup_fd(previous_wakeup)
                for number, handler in previous.items():
                    signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            happened: Callable[[], object] = key.data
            happened()
        while self._received:
            number = self._received.pop(0)
            if number == signal.SIGCHLD:
                self._reap()
            elif self._status is None:
                self._forward(number)

    def _reap(self) -> None:
        """Note how the server ended; as the first process of a container, also bury those of nobody else."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if self._server is not None and pid == self._server.pid:
                    self._status = self._server.returncode = os.waitstatus_to_exitcode(status)

    def _forward(self, number: int) -> None:
        name = signal.Signals(number).name
        if number == RETIRE and not self._state.ready.exists():
            number = signal.SIGTERM  # one that has not started up has nothing to leave to others
        if self._server is not None:
            os.kill(self._server.pid, number)  # not reaped yet: the number is still its own
        if name in _LAST_OF_ALL:
            self._told = self._told or name
            self._let_go()

    def _let_go(self) -> None:
        """Offer the listener no more, and have it closed when the server closes it."""
        if self._offer is not None:
            self._selector.unregister(self._offer)
            self._offer.close()
            self._offer = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._claim.release()

    def _read(self) -> bool:
        """Read what the server has written; return whether there may be more."""
        assert self._server is not None
        assert self._server.stdout is not None
        assert self._lines is not None
        try:
            data = os.read(self._server.stdout.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(self._server.stdout)
            self._server.stdout.close()
            return False
        self._lines.feed(data)
        return True

    # The end

    def _end_leftovers(self) -> None:
        """Wait until what the server has started has ended, and end it when it does not."""
        deadline = time.monotonic() + _LEFTOVERS
        while leftovers := _others_of_this_session():
            if time.monotonic() > deadline:
                for process in leftovers:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            self._wait(0.05)
        self._reap()

    def _close(self) -> None:
        if self._server is not None and self._server.stdout is not None:
            while not self._server.stdout.closed and self._read():
                pass
            self._server.stdout.close()
        if self._lines is not None:
            self._lines.end()
        if self._log is not None:
            self._log.close()

    def _say(self, message: str) -> None:
        if self._log is not None:
            self._log.write(f"{message}\n".encode(errors="backslashreplace"))
        else:
            sys.stderr.write(f"{message}\n")


def _reason(status: int, told: str | None) -> str:
    how = f"it was ended by {_signal_name(-status)}" if status < 0 else f"it ended with status {status}"
    return how if told is None else f"{how} after it was told to stop"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _empty(reader: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while reader.recv(4096):
            pass


def _others_of_this_session() -> list[psutil.Process]:
    """Return what runs in the session of this process; nothing when it is not the one that began it."""
    me = os.getpid()
    if os.getsid(0) != me:
        return []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if process.pid != me and os.getsid(process.pid) == me and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child does before it becomes the server, so that it stops when this process is killed."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask_for_signal() -> None:
        prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # killed before the kernel was asked
            os._exit(1)

    return ask_for_signal
