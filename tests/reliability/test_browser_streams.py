"""EventSource in a real browser, on a page of another origin."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from tests.browser import needs_browser, showing
from tests.reliability.conftest import Serve
from tests.reliability.following import all_events, event_of, job, submit
from tests.servers.command import Command, until

PAGE = """<!doctype html><title>A follower</title><script>
const source = new EventSource(location.hash.slice(1));
let told = Promise.resolve();
const tell = (what) =>  // one after the other, so that they arrive in their order
  { told = told.then(() => fetch("/told", { method: "POST", body: JSON.stringify(what) })); };
source.onopen = () => tell({ state: "open" });
source.onerror = () => tell({ state: source.readyState === EventSource.CLOSED ? "closed" : "lost" });
for (const kind of %s)
  source.addEventListener(kind, (event) => tell({ id: Number(event.lastEventId), event: JSON.parse(event.data) }));
</script>"""
KINDS = ["pipeline_started", "step_started", "step_completed", "output_delta", "pipeline_completed"]

COUNT, GATES = 60, [20, 40]


class Site(ThreadingHTTPServer):
    """Serves the page on an origin of its own; `told` is what the page says, in its order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[dict[str, Any]] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def states(self) -> list[str]:
        return [each["state"] for each in tuple(self.told) if "state" in each]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [each["event"] for each in tuple(self.told) if "event" in each]


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self._answer(200, (PAGE % json.dumps(KINDS)).encode())

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what the page tells is what counts."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def allowing(origin: str) -> str:
    return json.dumps({"allow_origins": [origin]})


def kill_who_is_connected(running: Command) -> None:
    """Kill each worker that somebody has a connection to: a browser may open more of them than it uses."""
    for worker in psutil.Process(running.process.pid).children():
        if any(each.laddr.port == running.port and each.raddr for each in worker.net_connections("tcp")):
            worker.send_signal(signal.SIGKILL)


@needs_browser
def test_an_event_source_goes_on_when_its_worker_was_killed(serve: Serve, tmp_path: Path) -> None:
    """On a page of an allowed origin it comes back by itself, gets every event once, and stays away after the end."""
    with site() as page, serve("story.py:story", "--workers", 2, "--cors", allowing(page.origin)) as running:
        job_id = submit(running.port, {"count": COUNT, "gates": GATES})
        with showing(f"{page.origin}/#{running.origin}/stream/{job_id}", tmp_path / "profile"):
            until(lambda: len(page.events) >= GATES[0], f"the first events in {page.told}")
            kill_who_is_connected(running)
            until(lambda: page.states.count("open") == 2, f"another connection: {page.states}")
            for gate in GATES:
                (tmp_path / f"gate-{gate}").touch()
            until(lambda: "closed" in page.states, f"the end of {page.states}")
        assert [state for state, _ in groupby(page.states)] == ["open", "lost", "open", "lost", "closed"]
        assert page.events == [event_of(frame) for frame in all_events(running.port, job_id)]
        assert [each["id"] for each in page.told if "event" in each] == list(range(1, len(page.events) + 1))
        assert job(running.port, job_id)["status"] == "completed"


@needs_browser
def test_an_event_source_of_another_origin_gets_nothing(serve: Serve, tmp_path: Path) -> None:
    """Where the page's origin is not allowed the browser keeps the events from it, and does not try again."""
    with site() as page, serve("story.py:story", "--cors", allowing("https://elsewhere.example")) as running:
        job_id = submit(running.port, {})
        with showing(f"{page.origin}/#{running.origin}/stream/{job_id}", tmp_path / "profile"):
            until(lambda: page.states, "what the page says")
        assert page.states == ["closed"]
        assert page.events == []
