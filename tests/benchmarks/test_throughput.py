"""The tables of jobs, streams and past, and what their figures are taken from. Nothing is timed."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmarks import jobs, past, queues, streams
from tests.benchmarks.contenders import CAPTURING, CONTENDERS
from tests.benchmarks.queues import Throughput
from tests.benchmarks.results import GOALS
from tests.benchmarks.server import BenchmarkError


def test_queues_are_compared_within_their_round() -> None:
    """The ratios are to the queue in the same kind of store, of the same round; a skipped one leaves them empty."""
    found = {
        "huey": [Throughput(100, 50), Throughput(400, 100)],
        "sqlite": [Throughput(200, 100), Throughput(400, 400)],
        "postgresql": [Throughput(10, 5)],
    }
    lines = jobs.results_table(found).splitlines()
    assert lines[3].endswith("| SQLite | 300 (200 to 400) | 1.50 | 250 (100 to 400) | 3.00 |")
    assert lines[4].endswith("| PostgreSQL | 10 (10 to 10) |  | 5 (5 to 5) |  |")


def test_deliveries_are_compared_within_their_round() -> None:
    """What takes half as long as by hand has a ratio of 2; processor time is for each delivery."""
    found = {"by_hand": [streams.Delivery(2.0, 1.0)], "asgipipe": [streams.Delivery(1.0, 0.5)]}
    lines = streams.results_table(found, streams.Plan(rounds=1, followers=100, events=50)).splitlines()
    assert lines[3].endswith("| 5,000 (5,000 to 5,000) | 2.00 (2.00 to 2.00) | 1,000 | 100.0 |")


def test_a_past_that_costs_is_bold() -> None:
    """A request is judged by its ratio to the same request after one job."""
    lines = past.costs_table({"same": (0.001, 0.0011), "slower": (0.001, 0.002)}, 1_000_000).splitlines()
    assert lines[0].split(" | ")[2] == "ms after 1,000,000 jobs"
    assert lines[2:] == ["| same | 1.00 | 1.10 | 1.10 ≤ 1.3 |", "| slower | 1.00 | 2.00 | **2.00 > 1.3** |"]


async def submitted(store: Path) -> int:
    """Have a few jobs done and return how many there are."""
    queue = queues.AsgipipeQueue(str(store), concurrency=2)
    async with queue.working():
        await queue.submit()
        await queue.submit()
        await queue.all_ended(2)
        return await queue.ended()


def test_jobs_are_counted_when_they_are_done(tmp_path: Path) -> None:
    """The harness submits through Python, waits for the last durable result, and counts no more than it gave."""
    assert asyncio.run(submitted(tmp_path / "store.db")) == 2


def test_the_past_looks_like_what_happened(tmp_path: Path) -> None:
    """The jobs that are made up have ids of their own, older than the real ones, and all the rest of a real row."""
    store = tmp_path / "store.db"
    asyncio.run(submitted(store))
    with closing(sqlite3.connect(store)) as connection:
        (real,) = connection.execute("SELECT MIN(id) FROM jobs").fetchone()
    past.fill(store, 300)
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT id, state, length(result) > 0 FROM jobs WHERE id < ?", [real]).fetchall()
        ended = connection.execute("SELECT COUNT(DISTINCT job_id) FROM events WHERE type = 'pipeline_completed'")
        assert ended.fetchone() == (301,)
    assert len(rows) == 299
    assert {len(row[0]) for row in rows} == {36}
    assert {row[2] for row in rows} == {1}
    assert sum(row[1] == "failed" for row in rows) == 2


class Transport(asyncio.WriteTransport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent += data

    def close(self) -> None:
        self.sent += b"closed"


async def followed(*pieces: bytes) -> streams.Follower:
    follower = streams.Follower("one")
    follower.connection_made(Transport())
    for piece in pieces:
        follower.data_received(piece)
    await follower.begun
    await follower.ended
    return follower


def test_a_follower_counts_its_events() -> None:
    """A follower that got an event too few makes the measurement fail, wherever the pieces were cut."""
    event = b"id: 1\nevent: output_delta\ndata: {}\n\n"
    follower = asyncio.run(followed(b"retry: 1000\n\n", event + event[:9], event[9:], b"0\r\n\r\n"))
    follower.verify("hand", 2)
    assert 0 < follower.first <= follower.last
    with pytest.raises(BenchmarkError, match="hand: a follower has 2 of 3 events"):
        follower.verify("hand", 3)


@pytest.mark.parametrize("name", [name for name in CAPTURING if name != "reference"])
def test_what_records_is_served_with_its_mode(name: str) -> None:
    """A recording contender is given its mode by the environment, and is otherwise the one that records nothing."""
    mode = CONTENDERS[name].environment.get("ASGIPIPE_CAPTURE")
    assert (mode is None) == name.startswith("asgipipe_starlette")
    assert ("realtime" in name) == any(goal.bound == 0.85 for goal in GOALS.get(name, ())) or "metadata" in name


def test_what_is_not_installed_is_named() -> None:
    """An entry says which package it lacks."""
    assert jobs.Entry("", None, jobs.SQLITE, "huey", ["no_such_package"]).missing == ["no_such_package"]
