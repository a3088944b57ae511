import json
import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from asgipipe.testing.client import soon
from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.reliability.following import submit
from tests.reliability.memory import MEBIBYTE, Peak, needs_peak
from tests.servers.command import PATIENCE, SERVERS, until

SIZE = 32 * MEBIBYTE


def opened(stack: ExitStack, port: int) -> ClientConnection:
    return stack.enter_context(connect(f"ws://127.0.0.1:{port}/stream", proxy=None, close_timeout=1))


def hear(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(socket.recv(PATIENCE))
    return frame


def ask(socket: ClientConnection, message: object) -> dict[str, Any]:
    socket.send(json.dumps(message))
    return hear(socket)


def code_of(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize(
    ("runner", "server", "workers"),
    [
        ("starlette", "uvicorn", 2),
        ("fastapi", "uvicorn", 1),
        ("django", "uvicorn", 1),
        ("quart", "uvicorn", 1),
        pytest.param("starlette", "gunicorn", 1, marks=SERVERS[2].marks),
    ],
)
def test_a_drain_ends_websockets_cleanly(serve: Serve, notes: Notes, runner: str, server: str, workers: int) -> None:
    """Row 21: idle ones hear 1012 at once, others when the job that they follow has finished; the exit is clean."""
    pytest.importorskip(runner)
    arguments = ("--runner", runner, "--server", server, "--workers", workers)
    with serve("gates.py:async_gate", *arguments) as running, ExitStack() as stack:
        idle, busy = opened(stack, running.port), opened(stack, running.port)
        job_id = ask(busy, {"parameters": {"number": 7}})["job_id"]
        notes.until("waiting")
        started = time.monotonic()
        running.signal(signal.SIGTERM)
        assert code_of(idle) == 1012
        frames = [ask(busy, {"id": 1})]  # it is refused, among the events of the job
        notes.open_gate()
        while frames[-1]["type"] != "pipeline_completed":
            frames.append(hear(busy))
        assert [frame["status"] for frame in frames if frame["type"] == "error"] == [503]
        assert frames[-1]["job_id"] == job_id
        assert frames[-1]["data"]["outputs"] == {"output": 7}
        assert code_of(busy) == 1012
        assert running.status() == 0, running.output
        assert time.monotonic() - started < soon(5)


@needs_peak
def test_a_websocket_that_is_not_read_is_dropped(serve: Serve) -> None:
    """Row 7: its run, which would go on for ever, is cancelled, and little was held of the events for it."""
    with serve("chatty.py:chatty", "--send-timeout", 0.5) as running, ExitStack() as stack:
        reader = opened(stack, running.port)
        ask(reader, {"parameters": {"count": 10}})  # opens the store
        while hear(reader)["type"] != "pipeline_completed":
            pass
        peak = Peak(running.process.pid)
        socket = stack.enter_context(raw.Connection(running.port, receive_buffer=4096))
        assert socket.ask(raw.handshake("/stream"), head=True).status == 101
        socket.send(_masked(json.dumps({"parameters": {"count": SIZE // 32_768}}).encode()))

        def in_flight() -> int:
            return int(raw.ask(running.port, raw.request("GET", "/metrics")).json()["in_flight"])

        until(in_flight, "the run")
        until(lambda: in_flight() == 0, "the run to end")
        counted = raw.ask(running.port, raw.request("GET", "/metrics")).json()
        assert counted["canceled_executions"] == 1, counted
        assert peak.growth() < 10 * MEBIBYTE


def test_a_connection_survives_what_it_is_sent(serve: Serve) -> None:
    """Row 10: what is no message is answered with an error, a message that is too large with 1009; others go on."""
    with serve("load.py:brief", "--max-message-size", 2000) as running, ExitStack() as stack:
        steady = opened(stack, running.port)
        odd: list[str | bytes] = ["", "{", "null", "[]", "NaN", b"\x00"]
        odd += ['{"type":"surprise"}', '{"type":1}', '{"type":"subscribe"}', '{"parameters":{"text":1}}', "[" * 1500]
        for message in odd:
            steady.send(message)
            assert hear(steady)["status"] in {400, 422}, message
        for large in ("x" * 2001, b"x" * 2001, "x" * MEBIBYTE):
            greedy = opened(stack, running.port)
            greedy.send(large)
            assert code_of(greedy) == 1009
        assert ask(steady, {"parameters": {"text": "y"}})["type"] == "accepted"
        while hear(steady)["type"] != "pipeline_completed":
            pass


def test_subscriptions_are_bounded(serve: Serve, notes: Notes) -> None:
    """Row 10: of 1000 subscriptions the first hundred jobs are followed, the rest refused; each event comes once."""
    jobs = 120
    with serve("gates.py:async_gate", "--job-concurrency", 20) as running, ExitStack() as stack:
        ids = [submit(running.port, {"number": number}) for number in range(jobs)]
        socket = opened(stack, running.port)
        for number in range(1000):
            socket.send(json.dumps({"type": "subscribe", "job_id": ids[number % jobs], "id": number}))
        refused: list[int] = []
        ended: list[str] = []
        while len(refused) < 900:
            frame = hear(socket)
            if frame["type"] == "error":
                refused.append(frame["status"])
        assert set(refused) == {429}
        assert raw.ask(running.port, raw.request("GET", "/health")).status == 200
        notes.open_gate()
        while len(ended) < 100:
            frame = hear(socket)
            if frame["type"] == "pipeline_completed":
                ended.append(frame["job_id"])
        assert sorted(ended) == sorted(ids[:100])


def _masked(text: bytes) -> bytes:
    """Return a frame of a client's, with a mask of zeros (RFC 6455, section 5.2)."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text
