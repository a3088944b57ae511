"""EventSource in a real browser, on a page of another origin."""

import json
import signal
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from tests.browser import Site, needs_browser, showing, site
from tests.reliability.conftest import Serve
from tests.reliability.following import all_events, event_of, job, submit
from tests.servers.command import Command, until

KINDS = ["pipeline_started", "step_started", "step_completed", "output_delta", "pipeline_completed"]

FOLLOWER = f"""
const source = new EventSource(location.hash.slice(1));
source.onopen = () => tell({{ state: "open" }});
source.onerror = () => tell({{ state: source.readyState === EventSource.CLOSED ? "closed" : "lost" }});
for (const kind of {json.dumps(KINDS)})
  source.addEventListener(kind, (event) => tell({{ id: Number(event.lastEventId), event: JSON.parse(event.data) }}));
"""

COUNT, GATES = 60, [20, 40]


def states(page: Site) -> list[str]:
    return [each["state"] for each in tuple(page.told) if "state" in each]


def events(page: Site) -> list[dict[str, Any]]:
    return [each["event"] for each in tuple(page.told) if "event" in each]


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
    with site(FOLLOWER) as page, serve("story.py:story", "--workers", 2, "--cors", allowing(page.origin)) as running:
        job_id = submit(running.port, {"count": COUNT, "gates": GATES})
        with showing(f"{page.origin}/#{running.origin}/stream/{job_id}", tmp_path / "profile"):
            until(lambda: len(events(page)) >= GATES[0], f"the first events in {page.told}")
            kill_who_is_connected(running)
            until(lambda: states(page).count("open") == 2, f"another connection: {states(page)}")
            for gate in GATES:
                (tmp_path / f"gate-{gate}").touch()
            until(lambda: "closed" in states(page), f"the end of {states(page)}")
        assert [state for state, _ in groupby(states(page))] == ["open", "lost", "open", "lost", "closed"]
        assert events(page) == [event_of(frame) for frame in all_events(running.port, job_id)]
        assert [each["id"] for each in page.told if "event" in each] == list(range(1, len(events(page)) + 1))
        assert job(running.port, job_id)["status"] == "completed"


@needs_browser
def test_an_event_source_of_another_origin_gets_nothing(serve: Serve, tmp_path: Path) -> None:
    """Where the page's origin is not allowed the browser keeps the events from it, and does not try again."""
    with site(FOLLOWER) as page, serve("story.py:story", "--cors", allowing("https://elsewhere.example")) as running:
        job_id = submit(running.port, {})
        with showing(f"{page.origin}/#{running.origin}/stream/{job_id}", tmp_path / "profile"):
            until(lambda: states(page), "what the page says")
        assert states(page) == ["closed"]
        assert events(page) == []
