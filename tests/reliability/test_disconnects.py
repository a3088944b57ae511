from contextlib import ExitStack

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.servers.command import Command, until

ONE_PLACE = ("--max-concurrency", 1, "--max-queue", 1)
SIZE = 32 * 1024 * 1024


def counts(running: Command) -> dict[str, int]:
    found = raw.ask(running.port, raw.request("GET", "/metrics")).json()
    return {
        name: found[f"{name}_executions" if name != "in_flight" else name]
        for name in ("total", "successful", "failed", "canceled", "in_flight")
    }


def until_counted(running: Command, **expected: int) -> None:
    """Wait until the run is counted as expected; every count that is not named is 0."""
    wanted = {"total": 0, "successful": 0, "failed": 0, "canceled": 0, "in_flight": 0, **expected}
    until(lambda: counts(running) == wanted, f"{wanted}, not {counts(running)}")


@pytest.mark.parametrize("policy", ["continue", "cancel"])
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_before_the_body_is_complete(serve: Serve, notes: Notes, policy: str, framing: str) -> None:
    """Row 9: a client that goes away in its body starts nothing, whatever the policy, and its place is free."""
    limits = ("--max-concurrency", 1, "--max-queue", 0, "--on-disconnect", policy)
    with serve("gates.py:async_gate", *limits) as running:
        connection = raw.Connection(running.port)
        connection.send(
            f"POST /invoke HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode()
        )
        until(lambda: raw.ask(running.port, raw.invoke(b"{")).status == 429, "the place to be taken")
        connection.reset()
        notes.open_gate()
        until(lambda: raw.ask(running.port, raw.invoke()).status == 200, "the place to be free")
        until_counted(running, total=1, successful=1)


@pytest.mark.parametrize("target", ["gates.py:sync_gate", "gates.py:async_gate"])
def test_while_it_runs_it_continues(serve: Serve, notes: Notes, target: str) -> None:
    """Row 9: by default a run whose client went away goes on to its end and counts as any other."""
    with serve(target, *ONE_PLACE) as running:
        connection = raw.Connection(running.port)
        connection.send(raw.invoke())
        notes.until("waiting")
        connection.reset()
        assert counts(running)["in_flight"] == 1
        notes.open_gate()
        until_counted(running, total=1, successful=1)
        assert notes.words().count("after") == 1
        assert raw.ask(running.port, raw.invoke()).status == 200


@pytest.mark.parametrize("target", ["gates.py:sync_gate", "gates.py:async_gate"])
def test_while_it_runs_it_is_cancelled(serve: Serve, notes: Notes, target: str) -> None:
    """Row 9: with `cancel` the run ends at its next await or step, and a thread keeps its place until it has ended."""
    with serve(target, *ONE_PLACE, "--on-disconnect", "cancel") as running:
        connection = raw.Connection(running.port)
        connection.send(raw.invoke())
        notes.until("waiting")
        connection.reset()
        until_counted(running, total=1, canceled=1)
        if target.endswith("async_gate"):
            notes.until("left")
        else:
            with raw.Connection(running.port) as first, raw.Connection(running.port) as second:
                first.send(raw.invoke())
                second.send(raw.invoke())
                refused, _ = raw.first_answered([first, second], 1)
                assert refused[0].answer().status == 429
        notes.open_gate()
        until(lambda: raw.ask(running.port, raw.invoke()).status == 200, "the place to be free")
        assert counts(running)["in_flight"] == 0
        assert counts(running)["canceled"] == 1


@pytest.mark.parametrize("policy", ["continue", "cancel"])
def test_while_it_waits_for_a_place(serve: Serve, notes: Notes, policy: str) -> None:
    """Row 9: a client that goes away in the queue is never run, and the next one gets the place."""
    with serve("gates.py:async_gate", *ONE_PLACE, "--on-disconnect", policy) as running, ExitStack() as stack:
        first = stack.enter_context(raw.Connection(running.port))
        first.send(raw.invoke({"number": 1}))
        notes.until("waiting")
        queued = raw.Connection(running.port)
        queued.send(raw.invoke({"number": 2}))
        until(lambda: raw.ask(running.port, raw.invoke()).status == 429, "the queue to be full")
        queued.reset()
        notes.open_gate()
        assert first.answer().status == 200
        until(lambda: raw.ask(running.port, raw.invoke({"number": 3})).status == 200, "the place to be free")
        found = counts(running)
        assert found["in_flight"] == 0
        assert notes.words().count("after") == found["total"] == found["successful"]


@pytest.mark.parametrize("policy", ["continue", "cancel"])
def test_during_the_answer(serve: Serve, policy: str) -> None:
    """Row 9: a client that goes away while it is answered changes nothing about the run, and its place is free."""
    with serve("load.py:text", *ONE_PLACE, "--on-disconnect", policy) as running:
        connection = raw.Connection(running.port, receive_buffer=4096)
        connection.send(raw.invoke({"size": SIZE}))
        assert connection.socket.recv(12) == b"HTTP/1.1 200"
        connection.reset()
        until_counted(running, total=1, successful=1)
        until(lambda: raw.ask(running.port, raw.invoke({"size": 1})).status == 200, "the place to be free")


@pytest.mark.parametrize("policy", ["continue", "cancel"])
def test_right_after_the_answer(serve: Serve, policy: str) -> None:
    """Row 9: a client that closes when it has its answer, or has another request half sent, is a finished one."""
    with serve("load.py:text", *ONE_PLACE, "--on-disconnect", policy) as running:
        for _ in range(3):
            connection = raw.Connection(running.port)
            assert connection.ask(raw.invoke({"size": 1})).status == 200
            connection.send(b"POST /invoke HTTP/1.1\r\nHost:")
            connection.reset()
        until_counted(running, total=3, successful=3)
        assert raw.ask(running.port, raw.invoke({"size": 1})).status == 200
