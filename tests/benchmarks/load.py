"""The load generator: wrk, one thread, keep-alive connections, as many requests as the server answers."""

import json
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Final

from tests.benchmarks import workload
from tests.benchmarks.server import BenchmarkError
from tests.benchmarks.tasks import Task

# wrk's text report rounds; its `done` callback has the numbers. Latencies are in microseconds.
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"duration":%d,"p50":%.1f,"p99":%.1f,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


_LONGEST: Final = 3600


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw; times in seconds."""

    requests: int
    duration: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.duration


@dataclass(frozen=True, slots=True)
class Target:
    """What wrk loads: the server on `port`, with one task."""

    name: str
    port: int
    task: Task
    connections: int


def write_script(folder: Path, task: Task) -> Path:
    """Write wrk's script with the request into `folder`."""
    path = folder / "request.lua"
    path.write_text(_SCRIPT.format(body=task.request.decode(), key=workload.AUTH_KEY))
    return path


def run(target: Target, seconds: float) -> Load:
    """Load the target; wrk stays on the cores of this process.

    Raises BenchmarkError when a single request failed, by its status or on its socket.
    """
    if (wrk := shutil.which("wrk")) is None:
        raise BenchmarkError("the load generator wrk is missing; Debian and Ubuntu: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = write_script(Path(folder), target.task)
        # It takes whole seconds only, and ends in order when it is interrupted.
        command = [wrk, "-t1", f"-c{target.connections}", f"-d{_LONGEST}s", "--timeout", "10s", "--latency"]
        url = f"http://127.0.0.1:{target.port}{target.task.path}"
        with subprocess.Popen([*command, "-s", script, url], stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
    if process.returncode != 0:
        raise BenchmarkError(f"wrk ended with status {process.returncode}: {(errors or output)[-500:]}")
    return parse(target.name, output)


def parse(name: str, output: str) -> Load:
    """Read the line that the script prints."""
    figures = json.loads(output.strip().splitlines()[-1])
    errors = {key: figures[key] for key in ("connect", "read", "write", "status", "timeout") if figures[key]}
    if errors:
        raise BenchmarkError(f"{name}: requests failed under load: {errors}")
    if not figures["requests"]:
        raise BenchmarkError(f"{name}: no request was answered under load")
    return Load(figures["requests"], figures["duration"] / 1e6, figures["p50"] / 1e6, figures["p99"] / 1e6)
