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
_PATIENCE = 20.0


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
        """Start another server if this one has ended; return what is wrong with the way in which it has."""
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            return None
        self.start()
        return f"{self.log.name}: a server ended by itself with status {status}"

    def kill(self) -> None:
        self._end(signal.SIGKILL)
        self.start()

    def stop(self) -> str | None:
        """Stop it and start another one; return what is wrong with the time that took."""
        begun = time.monotonic()
        self._end(signal.SIGTERM)
        took = time.monotonic() - begun
        self.start()
        return None if took < GRACE + _PATIENCE / 2 else f"{self.log.name}: a server took {took:.1f} s to stop"

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self._end(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._signal(number)
        self.thaw()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
