import asyncio
from statistics import linear_regression

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.reliability.memory import resident
from tests.servers.command import Command, until

REQUESTS, ROUNDS = 20_000, 20

MIX = [
    raw.invoke({"number": 3}),
    raw.invoke({"number": 4, "items": ["a" * 100] * 20}),
    raw.invoke({"number": -1}),
    raw.invoke({"number": "x"}),
    raw.invoke({"surplus": 1}),
    raw.invoke(b"{"),
    raw.request("POST", "/invoke", "Content-Type: text/plain", body=b"{}"),
    raw.request("GET", "/health"),
    raw.request("GET", "/metrics", "Accept: text/plain"),
    raw.request("GET", "/info"),
    raw.request("GET", "/missing"),
    raw.request("PUT", "/invoke"),
    raw.request("GET", "/fails"),
    raw.request("GET", "/health", "X-Request-Id: " + "r" * 64),
    raw.CUT,
]
STATUSES = {200, 400, 404, 405, 415, 422, 500}

JOBS, JOB_ROUNDS = 4000, 20
JOB_MIX = [
    raw.invoke({"number": 5}, path="/invoke?mode=async"),
    raw.invoke({"number": 6, "items": ["a" * 100] * 20}, path="/invoke?mode=stream"),
    raw.invoke({"number": -2}, path="/invoke?mode=stream"),
    raw.invoke({"number": 7}, "Idempotency-Key: seven"),
    raw.invoke({"number": 8}, "Idempotency-Key: eight", path="/invoke?mode=stream"),
    raw.invoke({"number": 9}, "Idempotency-Key: eight"),
    raw.request("GET", "/jobs?limit=3"),
    raw.request("GET", "/stream/00000000-0000-7000-8000-000000000000"),
    raw.HALF_READ,
]
JOB_STATUSES = {200, 202, 404, 422}
AWAITING = "_await_store"
"""The task that looks for a store which others make; it ends when there is one."""


def mixed(number: int) -> bytes:
    return MIX[number % len(MIX)]


def mixed_with_jobs(number: int) -> bytes:
    return JOB_MIX[number % len(JOB_MIX)]


def slope(sizes: list[int], requests: int) -> float:
    """Return by how many bytes each request of the second half made the memory grow."""
    second_half = sizes[len(sizes) // 2 :]
    return linear_regression(range(len(second_half)), second_half).slope * len(sizes) / requests


def test_memory_does_not_grow_with_requests(serve: Serve) -> None:
    """Row 28: over the second half of 20,000 mixed requests, aborted ones among them, memory does not rise."""
    with serve("inside.py:mixed", "--log-level", "critical") as running:
        port, pid = running.port, running.process.pid
        load = raw.Load(port)
        sizes = []
        for _ in range(ROUNDS):
            asyncio.run(load.run(REQUESTS // ROUNDS, 16, mixed))
            sizes.append(resident(pid))
        assert load.statuses.keys() == STATUSES
        grown = slope(sizes, REQUESTS)
        assert grown < 60, f"{grown:.0f} bytes for each request: {[size // 1024 for size in sizes]} KiB"


def test_memory_does_not_grow_with_jobs(serve: Serve) -> None:
    """Row 28: nor over the second half of 4000 jobs, streams, keys and streams cut short; all jobs come to an end."""
    with serve("inside.py:mixed", "--log-level", "critical") as running:
        port, pid = running.port, running.process.pid
        load = raw.Load(port)
        sizes = []
        for _ in range(JOB_ROUNDS):
            asyncio.run(load.run(JOBS // JOB_ROUNDS, 16, mixed_with_jobs))
            sizes.append(resident(pid))
        assert JOB_STATUSES <= load.statuses.keys() <= JOB_STATUSES | {409}  # a key that is being used
        grown = slope(sizes, JOBS)
        # The store's caches fill slowly: of 200,000 requests the second half made it grow by nothing.
        assert grown < 600, f"{grown:.0f} bytes for each request: {[size // 1024 for size in sizes]} KiB"
        open_jobs = [raw.request("GET", f"/jobs?status={state}") for state in ("pending", "running")]
        until(lambda: not any(raw.ask(port, sent).json()["total"] for sent in open_jobs), "the end of all jobs")


def inside(running: Command) -> dict[str, object]:
    found: dict[str, object] = raw.ask(running.port, raw.request("GET", "/inside")).json()
    return found


def read_all(port: int) -> None:
    for path in ("/counting", "/counting-async", "/docs", "/"):
        assert raw.ask(port, raw.request("GET", path, "Accept: text/html")).status == 200


def abuse(port: int) -> None:
    """Everything that could leave something behind, several times."""
    asyncio.run(raw.Load(port).run(600, 16, mixed))
    asyncio.run(raw.Load(port).run(180, 16, mixed_with_jobs))
    read_all(port)
    for path in ("/stream", "/stream-of-nobody"):
        connection = raw.Connection(port)
        connection.send(raw.handshake(path))
        connection.head()
        connection.reset()
    for sent in (b"GET", b"POST /invoke HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{", b"\0\0\r\n\r\n"):
        for _ in range(10):
            connection = raw.Connection(port)
            connection.send(sent)
            connection.reset()
    for path in ("/counting-async?limit=1000000", "/counting?limit=1000000"):
        connection = raw.Connection(port, receive_buffer=4096)
        connection.send(raw.request("GET", path))
        connection.socket.recv(1)
        connection.reset()


@pytest.mark.parametrize("policy", ["continue", "cancel"])
def test_nothing_is_left_behind(serve: Serve, policy: str) -> None:
    """Row 29: threads, tasks, descriptors and runs are as many after every kind of request as before, nothing warns."""
    strict = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error::ResourceWarning"}
    limits = ("--thread-pool-size", 1, "--on-disconnect", policy, "--receive-timeout", 2)
    with serve("inside.py:mixed", *limits, **strict) as running:
        for sent in (*MIX, *JOB_MIX):
            if sent not in {raw.CUT, raw.HALF_READ}:
                assert raw.ask(running.port, sent).status in STATUSES | JOB_STATUSES
        read_all(running.port)
        until(lambda: AWAITING not in str(inside(running)), "the store to be open")
        until(lambda: inside(running) == inside(running), "the first connections to be gone")
        before = inside(running)
        for _ in range(2):
            abuse(running.port)
        until(lambda: inside(running) == before, f"{before} again, not {inside(running)}")
        assert running.stop() == 0
        for trouble in ("ResourceWarning", "Exception ignored", "never awaited", "never retrieved", "was destroyed"):
            assert trouble not in running.output, running.output[-3000:]
