"""A running `asgipipe` command, for tests that need the real thing: processes, signals, sockets."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

GUNICORN = find_spec("gunicorn") is not None and find_spec("uvicorn_worker") is not None

needs_gunicorn = pytest.mark.skipif(not GUNICORN, reason="gunicorn or uvicorn-worker is not installed")

SERVERS = [
    pytest.param("uvicorn", 1, id="uvicorn-1"),
    pytest.param("uvicorn", 2, id="uvicorn-2"),
    pytest.param("gunicorn", 1, id="gunicorn-1", marks=needs_gunicorn),
    pytest.param("gunicorn", 2, id="gunicorn-2", marks=needs_gunicorn),
]
"""The server and its number of workers."""

MANY_WORKERS = [SERVERS[1], SERVERS[3]]
"""Of these, those with more than one worker."""

PATIENCE = 30.0
"""Seconds after which a condition that is waited for has failed; never the time a test takes."""


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


class Command:
    """A process of the command; `output` is everything it has written so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def until_says(self, pattern: str, times: int = 1) -> None:
        def said() -> bool:
            if len(re.findall(pattern, self.output)) >= times:
                return True
            assert self.process.poll() is None or self._reader.is_alive(), self.output
            return False

        until(said, f"{pattern!r} in:\n{self.output}")

    @property
    def origin(self) -> str:
        """The address from the banner; waits for it."""
        self.until_says(r"serves on http://\S+")
        found = re.search(r"serves on (http://[^\s\",]+)", self.output)
        assert found
        return found.group(1)

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.origin, timeout=PATIENCE)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.status()


@contextmanager
def command(
    *arguments: object, folder: Path, environment: Mapping[str, str] | None = None, group: bool = False
) -> Iterator[Command]:
    """Run `asgipipe` with `arguments` in `folder`; kill it when the block is left. `group` gives it a process group."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")}
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "asgipipe", *map(str, arguments)],
        cwd=folder,
        env={**variables, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=group,
    )
    running = Command(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        running._reader.join(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def serving(
    target: object, *arguments: object, folder: Path, environment: Mapping[str, str] | None = None, group: bool = False
) -> Iterator[Command]:
    """Serve `target` on a free port."""
    with command(
        "serve", target, "--port", 0, *arguments, folder=folder, environment=environment, group=group
    ) as running:
        yield running
