import time
from contextlib import ExitStack

import psutil
import pytest

from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.servers.command import until

POOL, REQUESTS = 4, 300
HURRIED = b'{"timeout": 0.1}'


def test_deadlines_hold_and_threads_do_not_grow(serve: Serve, notes: Notes) -> None:
    """Row 11: 300 sync runs past a deadline of 0.1 s are answered while their threads still wait, in a pool of 4."""
    with serve("gates.py:sync_gate", "--thread-pool-size", POOL) as running, ExitStack() as stack:
        process = psutil.Process(running.process.pid)
        before = process.num_threads()
        clients = [stack.enter_context(raw.Connection(running.port)) for _ in range(REQUESTS)]
        for client in clients:
            client.send(raw.invoke(HURRIED))
        for client in clients:
            answer = client.answer()
            assert answer.status == 504
            assert not answer.json()["success"]
        assert notes.words() == ["waiting"] * POOL
        assert process.num_threads() <= before + POOL
        counted = raw.ask(running.port, raw.request("GET", "/metrics")).json()
        assert (counted["total_executions"], counted["failed_executions"], counted["in_flight"]) == (
            REQUESTS,
            REQUESTS,
            0,
        )
        notes.open_gate()
        assert raw.ask(running.port, raw.invoke()).status == 200
        assert notes.words().count("waiting") == POOL + 1
        assert notes.words().count("after") == 1


def test_a_place_is_free_when_its_thread_has_ended(serve: Serve, notes: Notes) -> None:
    """Row 11: a run that was given up keeps its place while its thread works, so more are refused, not piled up."""
    limits = ("--thread-pool-size", POOL, "--max-concurrency", POOL, "--max-queue", 0)
    with serve("gates.py:sync_gate", *limits) as running, ExitStack() as stack:
        clients = [stack.enter_context(raw.Connection(running.port)) for _ in range(POOL)]
        for client in clients:
            client.send(raw.invoke(HURRIED))
        assert [client.answer().status for client in clients] == [504] * POOL
        for _ in range(10):
            assert raw.ask(running.port, raw.invoke(HURRIED)).status == 429
        assert raw.ask(running.port, raw.request("GET", "/ready")).status == 200
        notes.open_gate()

        def asked() -> list[int]:
            for client in clients:
                client.send(raw.invoke())
            return [client.answer().status for client in clients]

        until(lambda: asked() == [200] * POOL, "all places to be free")


@pytest.mark.parametrize("where", ["the request", "the settings"])
def test_async_runs_end_at_their_deadline(serve: Serve, notes: Notes, where: str) -> None:
    """Row 11: an async run is cancelled at its deadline, wherever that was set, and gives its place back at once."""
    limits: tuple[object, ...] = ("--max-concurrency", 1, "--max-queue", 0)
    if where == "the settings":
        limits += ("--request-timeout", 0.1)
    with serve("gates.py:async_gate", *limits) as running:
        started = time.monotonic()
        for _ in range(5):
            answer = raw.ask(running.port, raw.invoke(HURRIED if where == "the request" else b"{}"))
            assert answer.status == 504
        assert notes.words() == ["waiting", "left"] * 5
        assert time.monotonic() - started >= 0.5
