import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from asgipipe.testing.client import soon
from tests.conftest import free_port
from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.servers.command import PATIENCE, SERVERS, command, serving

START = ["lifespan-begin", "on_init", "on_init-done", "startup_hook", "startup_hook-done"]
STOP = ["shutdown_hook", "shutdown_hook-done", "on_cleanup", "on_cleanup-done", "lifespan-end"]


def without_runs(words: list[str]) -> list[str]:
    return [word for word in words if word != "run"]


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_every_hook_is_called_once_in_its_order(serve: Serve, notes: Notes, server: str, workers: int) -> None:
    """Row 22: each process starts and stops everything exactly once, and stops in reverse."""
    with serve("hooks.py:hooked", "--server", server, "--workers", workers) as running:
        assert raw.ask(running.port, raw.invoke()).status == 200
        assert running.stop() == 0, running.output
        processes = notes.of_each_process()
        assert len(processes) == workers
        assert all(without_runs(words) == START + STOP for words in processes.values())


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_hooks_run_although_runs_are_cut(serve: Serve, notes: Notes, server: str, workers: int) -> None:
    """Row 22: a run that outlives the drain does not keep anything from being closed."""
    arguments = ("--drain-timeout", 0.2, "--server", server, "--workers", workers)
    with serve("hooks.py:hooked", *arguments) as running, raw.Connection(running.port) as connection:
        connection.send(raw.invoke({"wait": True}))
        notes.until("run")
        assert running.stop() == 1, running.output
        assert all(without_runs(words) == START + STOP for words in notes.of_each_process().values())


@pytest.mark.parametrize("deed", ["raise", "exit", "interrupt"])
@pytest.mark.parametrize("hook", ["shutdown_hook", "on_cleanup"])
def test_a_stop_that_fails_stops_the_rest(serve: Serve, notes: Notes, hook: str, deed: str) -> None:
    """Row 22: whatever a hook raises at the end is logged, and the others are called all the same."""
    with serve("hooks.py:hooked", NAUGHTY=f"{hook}:{deed}") as running:
        assert raw.ask(running.port, raw.invoke()).status == 200
        running.stop()
        (words,) = notes.of_each_process().values()
        assert without_runs(words) == START + [word for word in STOP if word != f"{hook}-done"]
        assert hook in running.output


CLEANED = {
    "lifespan": [],
    "on_init": ["lifespan-end"],
    "startup_hook": ["on_cleanup", "on_cleanup-done", "lifespan-end"],
}


@pytest.mark.parametrize("deed", ["raise", "exit", "interrupt"])
@pytest.mark.parametrize("hook", ["on_init", "startup_hook"])
def test_a_start_that_fails_closes_what_it_had_opened(serve: Serve, notes: Notes, hook: str, deed: str) -> None:
    """Row 22: what was opened before the failing hook is closed once, what was not is not, and the status is 3."""
    with serve("hooks.py:hooked", NAUGHTY=f"{hook}:{deed}") as running:
        assert running.status() == 3, running.output
        assert notes.words() == START[: START.index(f"{hook}-done")] + CLEANED[hook]
        assert hook in running.output
        assert "Traceback" not in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_signal_during_the_start_closes_what_was_opened(
    serve: Serve, notes: Notes, server: str, workers: int
) -> None:
    """Row 22: SIGTERM while a hook is waiting ends every process cleanly; what was opened is closed once."""
    with serve("hooks.py:hooked", "--server", server, "--workers", workers, NAUGHTY="startup_hook:gate") as running:
        notes.until("startup_hook", workers)
        running.signal(signal.SIGTERM)
        running.until_says("SIGTERM")
        notes.open_gate()
        assert running.status() == 0, running.output
        assert "serves on" not in running.output
        for words in notes.of_each_process().values():
            assert words[:4] == START[:4]
            assert words[-3:] == STOP[-3:]
            assert all(words.count(word) == 1 for word in words)


@pytest.mark.parametrize("target", ["hooks.py:hooked", "hooks.py:mirrored"])
@pytest.mark.parametrize("hook", ["on_init", "startup_hook"])
def test_a_start_that_hangs_is_cut(serve: Serve, notes: Notes, target: str, hook: str) -> None:
    """Row 23: a sync or async start hook that sleeps for a minute is cut at `hook_timeout`; the status is 3."""
    with serve(target, "--hook-timeout", 0.3, NAUGHTY=f"{hook}:hang") as running:
        assert running.status() == 3, running.output
        assert f"{hook} (" in running.output
        assert "0.3 s" in running.output
        assert f"{hook}-done" not in notes.words()


@pytest.mark.parametrize("target", ["hooks.py:hooked", "hooks.py:mirrored"])
@pytest.mark.parametrize("hook", ["shutdown_hook", "on_cleanup"])
def test_a_stop_that_hangs_is_cut(serve: Serve, notes: Notes, target: str, hook: str) -> None:
    """Row 23: a sync or async stop hook that sleeps for a minute is cut and logged, and the other one is called."""
    with serve(target, "--hook-timeout", 0.3, NAUGHTY=f"{hook}:hang") as running:
        assert raw.ask(running.port, raw.invoke()).status == 200
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < soon(10)
        assert f"{hook} (" in running.output
        done = {word for word in notes.words() if word.endswith("-done")}
        assert done == {"on_init-done", "startup_hook-done", "shutdown_hook-done", "on_cleanup-done"} - {f"{hook}-done"}


class Knocking:
    """Tries to connect all the time; `opened` counts how often somebody let it in."""

    def __init__(self, port: int) -> None:
        self.opened = 0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _knock(self) -> None:
        while not self._over.wait(0.005):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), PATIENCE):
                self.opened += 1


FAILING = {
    "a hook raises": ("app.py:failing", 3),
    "a hook exits": ("app.py:leaving", 3),
    "an import fails": ("broken.py", 2),
    "a module is missing": ("nowhere:app", 2),
    "the module exits": ("exits.py", 2),
}

APP = """
from asgipipe import pipeline

def fail():
    raise RuntimeError("no model file")

def leave():
    raise SystemExit(0)

@pipeline(on_init=fail)
def failing() -> int:
    return 1

@pipeline(settings={"startup_hook": leave})
def leaving() -> int:
    return 1
"""


@pytest.mark.parametrize(("server", "workers"), SERVERS)
@pytest.mark.parametrize("reason", FAILING)
def test_a_start_that_fails_ends_soon_and_serves_nothing(
    tmp_path: Path, reason: str, server: str, workers: int
) -> None:
    """Row 24: the exit status is not 0 within 5 s, and not one connection was ever accepted."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n")
    target, status = FAILING[reason]
    port = free_port()
    arguments = ("serve", target, "--port", port, "--server", server, "--workers", workers)
    started = time.monotonic()
    with Knocking(port) as knocking, command(*arguments, folder=tmp_path) as running:
        assert running.status() == status, running.output
        assert time.monotonic() - started < soon(5)
        assert knocking.opened == 0
    assert "Traceback" not in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_taken_port_ends_soon(tmp_path: Path, server: str, workers: int) -> None:
    """Row 24: where another server has the port, the status is 3 within 5 s, and the other one is not disturbed."""
    (tmp_path / "app.py").write_text("def app() -> int:\n    return 1\n")
    with serving("app.py", folder=tmp_path) as first:
        port = first.port
        started = time.monotonic()
        with command(
            "serve", "app.py", "--port", port, "--server", server, "--workers", workers, folder=tmp_path
        ) as second:
            assert second.status() == 3, second.output
            assert time.monotonic() - started < soon(5)
            assert str(port) in second.output
        assert raw.ask(port, raw.invoke()).status == 200
