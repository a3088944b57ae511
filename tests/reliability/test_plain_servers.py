"""The application of `asgipipe.asgi` under servers that know nothing of asgipipe."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from asgipipe.testing.client import soon
from tests.conftest import free_port
from tests.reliability import raw
from tests.reliability.conftest import Notes
from tests.servers.command import PATIENCE, needs_gunicorn, until

MODULE = """
import os, sys
sys.path.insert(0, {served!r})
from gates import async_gate, note
import asgipipe

def clean_up():
    note("cleaned")

app = asgipipe.asgi(async_gate.with_options(on_cleanup=clean_up), {{"drain_timeout": {grace}}})
"""

GRACE = 1.0

UVICORN = ("uvicorn", "mymodule:app", "--port", "{port}")
GUNICORN = (
    *("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"),
    *("--control-socket", "gunicorn.ctl", "mymodule:app"),
)
HYPERCORN = ("hypercorn", "-b", "127.0.0.1:{port}", "--graceful-timeout", "1", "mymodule:app")

NOTICING = [
    pytest.param(UVICORN, id="uvicorn"),
    pytest.param((*UVICORN, "--workers", "2"), id="uvicorn-2"),
    pytest.param(GUNICORN, id="gunicorn", marks=needs_gunicorn),
]
# hypercorn puts its own handlers over ours after the start, so runs are not cut by us but by its own grace time.
EVERY = [
    *NOTICING,
    pytest.param(
        HYPERCORN, id="hypercorn", marks=pytest.mark.skipif(find_spec("hypercorn") is None, reason="no hypercorn")
    ),
]


@contextmanager
def served(
    command: tuple[str, ...], folder: Path, **environment: str
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    port = free_port()
    module = MODULE.format(served=str(Path(__file__).parent / "served"), grace=GRACE)
    (folder / "mymodule.py").write_text(module)
    name, *arguments = (word.format(port=port) for word in command)
    variables = {key: value for key, value in os.environ.items() if not key.startswith("ASGIPIPE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        cwd=folder,
        env={**variables, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: _is_ready(port), f"{name} to serve")
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        return raw.ask(port, raw.request("GET", "/ready")).status == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("command", EVERY)
def test_a_run_in_flight_finishes(tmp_path: Path, notes: Notes, command: tuple[str, ...]) -> None:
    """Row 21: after SIGTERM a run is answered, and every process cleans up once, under the servers users have."""
    with served(command, tmp_path) as (process, port), raw.Connection(port) as connection:
        connection.send(raw.invoke({"number": 7}))
        notes.until("waiting")
        process.send_signal(signal.SIGTERM)
        notes.open_gate()
        assert connection.answer().json()["outputs"] == {"output": 7}
        released = time.monotonic()
        process.wait(PATIENCE)
        assert time.monotonic() - released < soon(5)
        assert all(words.count("cleaned") == 1 for words in notes.of_each_process().values())
        assert "cleaned" in notes.words()


@pytest.mark.parametrize("command", NOTICING)
def test_what_does_not_finish_is_cut_within_the_grace(tmp_path: Path, notes: Notes, command: tuple[str, ...]) -> None:
    """Row 21: a run longer than drain_timeout is cancelled, its client hears 503, and the process ends soon after."""
    with served(command, tmp_path) as (process, port), raw.Connection(port) as connection:
        connection.send(raw.invoke())
        notes.until("waiting")
        signalled = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answer = connection.answer()
        assert answer.status == 503
        assert answer.is_problem()
        process.wait(PATIENCE)
        assert GRACE <= time.monotonic() - signalled < GRACE + soon(5)
        assert notes.words().count("left") == 1
        assert all(words.count("cleaned") == 1 for words in notes.of_each_process().values())


def test_workers_count_together(tmp_path: Path, notes: Notes) -> None:
    """With metrics_directory each worker process of a plain server tells what all of them have counted."""
    notes.open_gate()
    (tmp_path / "counters").mkdir()
    workers = (*UVICORN, "--workers", "2")
    with served(workers, tmp_path, ASGIPIPE_METRICS_DIRECTORY="counters") as (_, port):
        until(lambda: len(set(_pids(notes, port))) == 2, "runs in both workers")
        for _ in range(10):
            metrics = raw.ask(port, raw.request("GET", "/metrics")).json()
            assert metrics["total_executions"] == notes.words().count("after")


def _pids(notes: Notes, port: int) -> list[str]:
    assert raw.ask(port, raw.invoke()).status == 200
    return list(notes.of_each_process())
