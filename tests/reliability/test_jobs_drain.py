"""SIGTERM while everything that there is of runs is in flight: a sync one, a job, its streams, and a WebSocket."""

import json
import signal
import threading
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from asgipipe.testing.client import soon
from tests.conftest import PATIENCE
from tests.reliability.conftest import MakeSite
from tests.reliability.killing import STARLETTE, Event, Host, Site, Store, events_in, until
from tests.servers.command import needs_gunicorn

HOSTS = [
    pytest.param(STARLETTE, id="uvicorn"),
    pytest.param(Host((*STARLETTE.arguments, "--server", "gunicorn")), id="gunicorn", marks=needs_gunicorn),
]


class Flight:
    """What clients have in flight at a server, each in a thread; `events` and `told` are those of stream and socket."""

    def __init__(self, site: Site) -> None:
        assert site.server is not None
        self.url = site.server.url
        self.job_id = site.submit("job", gated="gate")
        self.sync: httpx.Response | None = None
        self.events: list[Event] = []
        self.told: list[Event] = []
        self.stream_ended_cleanly = False
        self.closed_with: int | None = None
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._run, self._stream, self._socket)]
        for thread in self._threads:
            thread.start()
        site.until_noted(self.job_id, "waiting")
        until(lambda: len(self.events) >= 3 and len(self.told) >= 3 and self._sync_waits(site), "what is in flight")

    def land(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _sync_waits(self, site: Site) -> bool:
        return (site.folder / "effects").read_text().count(" waiting ") >= 2

    def _run(self) -> None:
        body = {"parameters": {"gated": "gate"}}
        self.sync = httpx.post(f"{self.url}/invoke", json=body, timeout=60)

    def _stream(self) -> None:
        with httpx.stream("GET", f"{self.url}/stream/{self.job_id}", timeout=60) as answer:
            for line in answer.iter_lines():
                self.events += events_in(line)
        self.stream_ended_cleanly = True

    def _socket(self) -> None:
        with connect(f"{self.url.replace('http', 'ws', 1)}/stream") as socket:
            socket.send(json.dumps({"type": "subscribe", "job_id": self.job_id}))
            try:
                for message in socket:
                    self.told.append(json.loads(message))
            except ConnectionClosed:
                pass
            self.closed_with = socket.close_code


@pytest.fixture
def store(tmp_path: object) -> Store:
    return Store(f"{tmp_path}/store.db")


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_in_flight_finishes(make_site: MakeSite, store: Store, host: Host) -> None:
    """Row 21: a sync run and a job finish within the grace, stream and WebSocket are told of the end, and /ready is
    503.
    """
    site = make_site(host, store, ASGIPIPE_DRAIN_TIMEOUT="20")
    server = site.start()
    site.listed()
    flight = Flight(site)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{server.url}/ready").status_code == 503, "the drain")
    assert httpx.post(f"{server.url}/invoke?mode=async", json={}).status_code == 503
    site.open("gate")
    released = time.monotonic()
    assert server.process.wait(PATIENCE) == 0, server.stderr()
    assert time.monotonic() - released < soon(5)
    flight.land()
    assert flight.sync is not None
    assert flight.sync.json()["outputs"] == {"output": 3}
    assert flight.stream_ended_cleanly
    assert flight.closed_with == 1012
    assert flight.events[-1]["event_type"] == flight.told[-1]["type"] == "pipeline_completed"
    site.start()
    job = site.ended(flight.job_id)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    assert flight.events == site.verify_history(job)


@pytest.mark.parametrize("host", HOSTS)
def test_what_does_not_finish_is_handed_over(make_site: MakeSite, store: Store, host: Host) -> None:
    """Row 21: beyond the grace the sync run hears 503, stream and WebSocket end cleanly, the job is pending, and the
    next start finishes it.
    """
    grace = 0.5
    site = make_site(host, store, ASGIPIPE_DRAIN_TIMEOUT=str(grace))
    server = site.start()
    site.listed()
    flight = Flight(site)
    signalled = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 1, server.stderr()
    assert time.monotonic() - signalled < grace + soon(5)
    flight.land()
    assert flight.sync is not None
    assert flight.sync.status_code == 503
    assert flight.stream_ended_cleanly
    assert flight.closed_with == 1012
    site.start()
    site.open("gate")
    job = site.ended(flight.job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    events = site.verify_history(job)
    assert flight.events == events[: len(flight.events)]
