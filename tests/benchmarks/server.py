"""Starting a contender in a process of its own, and reading what that process costs (Linux, from /proc)."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.benchmarks import workload
from tests.benchmarks.contenders import Contender
from tests.benchmarks.tasks import Task

START_LIMIT = 30.0
_ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """The measurement cannot be trusted; the message says which contender and why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The processor core of the server and the one of everything else."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> "Cores":
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1])

    @property
    def shared(self) -> bool:
        return self.server == self.load


@dataclass(frozen=True, slots=True)
class Server:
    """A running contender; `startup` is the time from process start to the first right answer, in seconds."""

    name: str
    port: int
    pid: int
    startup: float

    def cpu_seconds(self) -> float:
        """Return the user and system time of all threads so far, in steps of one clock tick (10 ms)."""
        # The command name, in parentheses, may hold spaces; fields are counted after it (proc_pid_stat(5)).
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Return the resident set size."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchmarkError(f"{self.name}: the server process has ended")


@contextmanager
def serving(contender: Contender, cores: Cores) -> Iterator[Server]:
    """Serve one contender on its core; stop it at the end."""
    port = _free_port()
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        environment = {"ASGIPIPE_STORE_URL": f"{folder}/store.db", **contender.environment}
        began = time.perf_counter()
        process = _start(contender.command(port), cores, log, environment)
        try:
            _await_answer(contender, process, port, log)
            yield Server(contender.name, port, process.pid, time.perf_counter() - began)
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(
    arguments: Sequence[str], cores: Cores, log: IO[bytes], more: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, *arguments]
    environment = {**os.environ, "ASGIPIPE_AUTH_KEY": workload.AUTH_KEY, **more}
    os.sched_setaffinity(0, {cores.server})  # a child inherits it from its first instruction on
    try:
        return subprocess.Popen(command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    finally:
        os.sched_setaffinity(0, {cores.load})


def _await_answer(contender: Contender, process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"{contender.name} ended with status {process.returncode}:\n{_tail(log)}")
        try:
            status, answer = ask(port, contender.task)
        except ConnectionRefusedError:
            time.sleep(0.001)
            continue
        contender.task.verify(contender.name, status, answer)
        return
    raise BenchmarkError(f"{contender.name} did not answer within {START_LIMIT:g} s:\n{_tail(log)}")


def ask(port: int, task: Task) -> tuple[int, bytes]:
    """Send the request that the load generator sends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
    headers = {"content-type": "application/json", "authorization": f"Bearer {workload.AUTH_KEY}"}
    try:
        connection.request("POST", task.path, task.request, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode(errors="replace")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
