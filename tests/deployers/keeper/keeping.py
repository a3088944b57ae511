"""Keepers of small programs, for tests that need their processes, signals and sockets."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from asgipipe.deployers.keeper.state import Address, Exit, StateFolder
from tests.servers.command import PATIENCE, until

T = TypeVar("T")

SERVER = """
import os, signal, socket, sys, time
listener = socket.socket(fileno=int(os.environ["ASGIPIPE_LISTENER"]))
listener.listen()
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), os._exit(5)))
open(os.environ["ASGIPIPE_READY_FILE"], "w").close()
while True:
    peer, _ = listener.accept()
    peer.sendall(b"%d" % os.getpid())
    peer.close()
"""
"""A server that answers every connection with its process id."""


class Kept:
    """A keeper that was started in `folder`."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process = process
        self.state = StateFolder(folder)

    def status(self) -> int:
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        return self.state.log.read_text() if self.state.log.exists() else ""

    def address(self) -> Address:
        return known(self.state.address, "the address")

    def exit(self) -> Exit:
        self.status()
        return known(self.state.exit, "the exit record")

    def until_ready(self) -> Address:
        def ready() -> bool:
            assert self.process.poll() is None, f"{self.state.exit()}\n{self.log()}"
            return self.state.ready.exists()

        until(ready, "the server")
        return self.address()


def known(find: Callable[[], T | None], what: str) -> T:
    found: list[T] = []

    def look() -> bool:
        value = find()
        if value is not None:
            found.append(value)
        return bool(found)

    until(look, what)
    return found[0]


@contextmanager
def keeper(folder: Path, *options: object, code: str = SERVER, command: Sequence[str] | None = None) -> Iterator[Kept]:
    """Keep the program `code`, or `command`; all of it is killed when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [str(option) for option in options]
    defaults = [] if "--port" in given else ["--port", "0"]
    defaults += [] if "--log-files" in given else ["--log-files", "2"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "asgipipe.deployers.keeper", "--state", str(folder), "--host", "127.0.0.1"),
            *(*defaults, *given, "--", *(command or [sys.executable, "-uSEc", code])),
        ],
        env={**variables, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    kept = Kept(process, folder)
    try:
        yield kept
    finally:
        kill_session(process.pid)
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


def kill_session(leader: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while pids := session(leader):
        assert time.monotonic() < deadline, "processes that cannot be killed"
        for pid in pids:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def session(leader: int) -> list[int]:
    """Return the processes of a session that run, its leader among them."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found
