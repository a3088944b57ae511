"""Servers on one store, to which things are done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import free_port
from tests.reliability.killing import ROOT, Host

GRACE = 0.5
"""Seconds that a stopped server lets its jobs go on."""
_PATIENCE = 10.0
"""Seconds beyond that in which it has ended, on a busy machine, and though its database may be frozen."""


class Member:
    """One place in the fleet; its server may be another process each time, on the same port."""

    def __init__(self, folder: Path, host: Host, environment: Mapping[str, str]) -> None:
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}{host.prefix}"
        self.log = folder / f"server-{port}.log"
        self._folder = folder
        self._command = [*(host.program or (sys.executable, "-m", "asgipipe", "serve")), *host.arguments]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")},
            "PYTHONPATH": str(ROOT),
            "ASGIPIPE_UVICORN_PORT": port,
            "UVICORN_PORT": port,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._told_at: float | None = None

    @property
    def stopping(self) -> bool:
        return self._told_at is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def revive(self) -> str | None:
        """Start another server if this one has ended; return what is wrong with the way in which it has, or has not."""
        assert self._process is not None
        status = self._process.poll()
        took = 0.0 if self._told_at is None else time.monotonic() - self._told_at
        if status is None and took < GRACE + _PATIENCE:
            return None
        self._end()
        told, self._told_at = self._told_at is not None, None
        self.start()
        if status is None:
            return f"{self.log.name}: a server did not stop in {took:.1f} s"
        return None if told else f"{self.log.name}: a server ended by itself with status {status}"

    def kill(self) -> None:
        self._end()
        self._told_at = None
        self.start()

    def stop(self) -> None:
        """Tell it to stop; `revive` starts another one when it has."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self._end()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self) -> None:
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.wait()
