"""Event streams through what stands around a deployment, and in front of readers that stop."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.reliability.following import (
    Follower,
    all_events,
    event_of,
    follow,
    is_whole,
    job,
    number_of,
    numbers,
    streamed,
    submit,
)
from tests.reliability.memory import MEBIBYTE, Peak, needs_peak
from tests.servers.command import PATIENCE, Command, needs_gunicorn, until

ROOT = Path(__file__).parents[2]

ALONE = ("starlette-gzip", "fastapi-gzip", "quart", "quart-native")
BELOW = ("starlette-gzip-around", "fastapi-gzip-around", "quart-mounted", "quart-blueprint")
HEARTBEATS = 8
"""Comments that take longer than Quart gives an answer there."""

SIZE = 32 * MEBIBYTE
EVENTS = 60_000


@dataclass(frozen=True)
class Places:
    """A server with a deployment in every place."""

    port: int
    folder: Path

    def stream(self, place: str, parameters: object) -> Follower:
        path = "/below/invoke" if place in BELOW else "/invoke"
        request = streamed(parameters, f"X-Specimen: {place}", "Accept-Encoding: gzip", path=path)
        return Follower(raw.Connection(self.port), request)

    def open_gate(self, number: int) -> None:
        (self.folder / f"gate-{number}").touch()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    for flavor in ("fastapi", "quart"):
        pytest.importorskip(flavor)
    folder = tmp_path_factory.mktemp("places")
    command = ["uvicorn", "--factory", "tests.reliability.served.places:application", "--log-level", "warning"]
    # Bound here: connections wait until the server is ready.
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--fd", str(listening.fileno())],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"},
            pass_fds=(listening.fileno(),),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Places(listening.getsockname()[1], folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
    assert (folder / "log").read_text() == ""


@pytest.mark.parametrize("place", [*ALONE, *BELOW])
def test_events_and_comments_come_one_by_one(places: Places, place: str) -> None:
    """What compresses does not hold them back, and what limits the time of an answer does not cut them off."""
    first = 10 * (1 + (*ALONE, *BELOW).index(place))  # gates of its own
    gates = [first + number for number in range(3)]
    with places.stream(place, {"count": gates[-1], "gates": gates}) as follower:
        assert follower.head.status == 200
        assert follower.head.header(b"content-encoding") is None
        assert follower.head.header(b"cache-control") == b"no-store, no-transform"
        for gate in gates:
            follower.until(gate + 1)  # two events come before the first line
            assert event_of(follower.frames[-1])["data"] == {"delta": f"line {gate - 1} of {gates[-1]}\n"}
            if gate == gates[0]:
                follower.hear(HEARTBEATS)
                assert follower.last == gate + 1
            places.open_gate(gate)
        assert is_whole(follower.rest())
        assert event_of(follower.frames[-1])["event_type"] == "pipeline_completed"


def in_flight(running: Command) -> int:
    return int(raw.ask(running.port, raw.request("GET", "/metrics")).json()["in_flight"])


def read_once(port: int, parameters: object) -> None:
    """Have a run and its events, so that the store is open and every buffer was used."""
    with Follower(raw.Connection(port), streamed(parameters)) as follower:
        assert is_whole(follower.rest())


@needs_peak
def test_a_stream_that_is_not_read_is_dropped(serve: Serve) -> None:
    """Row 7: its run, which would go on for ever, is cancelled, and little was held of the events for it."""
    with serve("chatty.py:chatty", "--send-timeout", 0.5) as running:
        read_once(running.port, {"count": 100})
        peak = Peak(running.process.pid)
        with raw.Connection(running.port, receive_buffer=4096) as reader:
            reader.send(streamed({"count": SIZE // 32_768}))
            until(lambda: in_flight(running), "the run")
            until(lambda: not in_flight(running), "the run to end")
        running.until_says("does not read was dropped")
        assert raw.ask(running.port, raw.request("GET", "/metrics")).json()["canceled_executions"] == 1
        assert peak.growth() < 10 * MEBIBYTE


@needs_peak
def test_followers_that_are_not_read_are_dropped(serve: Serve) -> None:
    """Row 7: the run that they follow goes on as if they were not there; others go on following it."""
    with serve("chatty.py:chatty", "--send-timeout", 2) as running, ExitStack() as stack:
        port = running.port
        read_once(port, {"count": 100})
        peak = Peak(running.process.pid)
        job_id = submit(port, {"count": SIZE // 32_768})
        for _ in range(5):
            stack.enter_context(follow(port, job_id, receive_buffer=4096))
        with follow(port, job_id) as reader:
            running.until_says("does not read was dropped", 5)
            reader.until(SIZE // 32_768)
            assert peak.growth() < 10 * MEBIBYTE
            assert job(port, job_id)["status"] == "running"
            assert raw.ask(port, raw.request("POST", f"/jobs/{job_id}/cancel")).status == 202
            assert is_whole(reader.rest())


@needs_peak
def test_a_follower_that_stops_reading_holds_up_nothing(serve: Serve) -> None:
    """Row 8: of 60,000 events few are held for it, the job does not wait for it, and it goes on where it stopped."""
    with serve("flood.py:flood", "--send-timeout", 60) as running:
        port = running.port
        read_once(port, {"count": EVENTS // 10})
        peak = Peak(running.process.pid)
        job_id = submit(port, {"count": EVENTS})
        with follow(port, job_id, receive_buffer=4096) as stalled:
            stalled.until(1)
            until(lambda: job(port, job_id)["status"] == "completed", "the job's end")
            assert peak.growth() < 10 * MEBIBYTE
            seen = stalled.frames[:]
            stalled.cut()
        with follow(port, job_id, number_of(seen[-1])) as again:
            seen += again.rest()
        assert numbers(seen) == list(range(1, len(seen) + 1))
        assert len(seen) > EVENTS
        assert event_of(seen[-1])["event_type"] == "pipeline_completed"


@pytest.mark.parametrize(
    ("policy", "server"),
    [(None, "uvicorn"), ("continue", "uvicorn"), pytest.param("cancel", "gunicorn", marks=needs_gunicorn)],
)
def test_a_client_that_leaves_its_stream(
    serve: Serve, notes: Notes, tmp_path: Path, policy: str | None, server: str
) -> None:
    """Row 9: its job ends as canceled, or goes on where that is the policy, whether it waits, runs or is telling."""
    chosen = () if policy is None else ("--on-disconnect", policy)
    with serve("story.py:story", "--job-concurrency", 1, "--server", server, *chosen) as running:
        port = running.port

        def begin(*gates: int) -> Follower:
            return Follower(raw.Connection(port), streamed({"count": 3, "gates": gates}))

        def ids(state: str) -> list[str]:
            jobs = raw.ask(port, raw.request("GET", f"/jobs?status={state}")).json()["jobs"]
            return [each["job_id"] for each in jobs]

        def gone(count: int) -> None:
            if policy != "continue":
                until(lambda: len(ids("canceled")) == count, f"{count} cancelled jobs")

        with begin(1) as silent:
            notes.until("telling")
            with begin() as waiting:
                until(lambda: ids("pending"), "the second job")
                waiting.cut()
            silent.cut()
        gone(2)
        (tmp_path / "gate-1").touch()
        with begin(2) as telling:
            telling.until(3)
            telling.cut()
        gone(3)
        (tmp_path / "gate-2").touch()
        with begin() as content:
            assert is_whole(content.rest())
            content.cut()
        until(lambda: not in_flight(running), "the end of all runs")
        assert len(ids("completed")) == (4 if policy == "continue" else 1)
        assert {job(port, each)["cancel_reason"] for each in ids("canceled")} <= {"the client went away"}


def test_a_follower_that_leaves_cancels_nothing(serve: Serve, notes: Notes, tmp_path: Path) -> None:
    """Row 9: whoever only follows a job leaves it as it is, whatever the policy."""
    with serve("story.py:story", "--on-disconnect", "cancel") as running:
        job_id = submit(running.port, {"count": 3, "gates": [2]})
        with follow(running.port, job_id) as follower:
            follower.until(3)
            follower.cut()
        (tmp_path / "gate-2").touch()
        assert is_whole(all_events(running.port, job_id))
        assert job(running.port, job_id)["status"] == "completed"
