import signal
import time
from contextlib import ExitStack

import pytest

from asgipipe.testing.client import soon
from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.servers.command import SERVERS, until


@pytest.mark.parametrize(("server", "workers"), SERVERS)
@pytest.mark.parametrize("target", ["gates.py:sync_gate", "gates.py:async_gate"])
def test_runs_in_flight_finish(serve: Serve, notes: Notes, target: str, server: str, workers: int) -> None:
    """Row 21: after SIGTERM runs finish, new connections hear 503 with Retry-After, and the exit is clean and soon."""
    with serve(target, "--server", server, "--workers", workers) as running, ExitStack() as stack:
        port = running.port
        running_now = [stack.enter_context(raw.Connection(port)) for _ in range(4)]
        for number, each in enumerate(running_now):
            each.send(raw.invoke({"number": number}))
        idle = stack.enter_context(raw.Connection(port))
        assert idle.ask(raw.request("GET", "/ready")).status == 200
        notes.until("waiting", 4)
        running.signal(signal.SIGTERM)
        running.until_says("draining", workers)
        assert raw.ask(port, raw.request("GET", "/ready")).status == 503
        refused = raw.ask(port, raw.invoke())
        assert refused.status == 503
        assert refused.retry_after >= 1
        assert refused.is_problem()
        assert refused.is_secured()
        notes.open_gate()
        for number, each in enumerate(running_now):
            assert each.answer().json()["outputs"] == {"output": number}
        released = time.monotonic()
        assert running.status() == 0, running.output
        assert time.monotonic() - released < soon(5)


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_what_does_not_finish_is_cut_within_the_grace(serve: Serve, notes: Notes, server: str, workers: int) -> None:
    """Row 21: runs longer than `drain_timeout` are cut, their clients hear 503, and the process ends soon after."""
    grace = 0.5
    arguments = ("--drain-timeout", grace, "--server", server, "--workers", workers)
    with serve("gates.py:async_gate", *arguments) as running, raw.Connection(running.port) as connection:
        connection.send(raw.invoke())
        notes.until("waiting")
        signalled = time.monotonic()
        running.signal(signal.SIGTERM)
        answer = connection.answer()
        assert answer.status == 503
        assert answer.is_problem()
        notes.until("left")
        assert running.status() == 1, running.output
        assert time.monotonic() - signalled < grace + soon(5)


@pytest.mark.parametrize(("server", "workers"), SERVERS[::2])
def test_a_stream_without_end_does_not_keep_the_server(serve: Serve, server: str, workers: int) -> None:
    """Row 21: an endless stream is cut at `drain_timeout`, its generator is closed, and the hooks still run."""
    arguments = ("--drain-timeout", 0.3, "--server", server, "--workers", workers)
    with serve("streams.py:endless", *arguments) as running, raw.Connection(running.port) as connection:
        connection.send(raw.request("GET", "/ticks"))
        until(lambda: connection.socket.recv(4096), "the stream")
        assert running.stop() == 1, running.output
        connection.rest()
        until(lambda: "generator closed" in running.output, "the generator to be closed")
        assert running.output.index("generator closed") < running.output.index("cleaned up")


@pytest.mark.parametrize(("server", "workers"), SERVERS[::2])
def test_idle_connections_do_not_keep_the_server(serve: Serve, server: str, workers: int) -> None:
    """Row 21: connections that are kept alive, or have sent half a head, are closed, and the exit is clean at once."""
    with serve("load.py:brief", "--server", server, "--workers", workers) as running, ExitStack() as stack:
        kept = [stack.enter_context(raw.Connection(running.port)) for _ in range(10)]
        for each in kept:
            assert each.ask(raw.invoke()).status == 200
        kept[0].send(b"POST /invoke HTTP/1.1\r\nHo")
        started = time.monotonic()
        assert running.stop() == 0, running.output
        assert time.monotonic() - started < soon(5)
        assert all(each.rest() == b"" for each in kept)


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_websockets_are_told(serve: Serve, server: str, workers: int) -> None:
    """Row 21: an idle WebSocket of the user's own is closed with 1012, within the grace."""
    grace = 0.3
    arguments = ("--drain-timeout", grace, "--server", server, "--workers", workers)
    with serve("guarded.py:guarded", *arguments) as running, raw.Connection(running.port) as connection:
        assert connection.ask(raw.handshake("/socket-open"), head=True).status == 101
        signalled = time.monotonic()
        running.signal(signal.SIGTERM)
        closing = connection.rest()
        assert closing[:1] == b"\x88"
        assert int.from_bytes(closing[2:4]) == 1012
        running.status()
        assert time.monotonic() - signalled < grace + soon(5)


@pytest.mark.parametrize("runner", ["starlette", "fastapi", "django", "quart"])
def test_every_runner_drains_and_cleans_up(serve: Serve, notes: Notes, runner: str) -> None:
    """Rows 21 and 22: whatever the framework, a run in flight finishes, and every hook is called once, in order."""
    pytest.importorskip(runner)
    with serve("hooks.py:waiting", "--runner", runner) as running, raw.Connection(running.port) as connection:
        connection.send(raw.invoke())
        notes.until("run")
        running.signal(signal.SIGTERM)
        running.until_says("draining, 1 in flight")
        assert raw.ask(running.port, raw.request("GET", "/ready")).status == 503
        assert raw.ask(running.port, raw.invoke()).status == 503
        notes.open_gate()
        assert connection.answer().json()["outputs"] == {"output": "done"}
        assert running.status() == 0, running.output
    start = ["on_init", "on_init-done", "startup_hook", "startup_hook-done"]
    stop = ["shutdown_hook", "shutdown_hook-done", "on_cleanup", "on_cleanup-done"]
    assert notes.words() == [*start, "run", *stop]
