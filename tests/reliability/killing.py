"""A server that is killed and started again, and what is left of its jobs: in its store, and in the world."""

import json
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import PATIENCE, Serve, Server
from tests.postgresql import PostgreSQLServer

ROOT = Path(__file__).parents[2]
SERVED = Path(__file__).parent / "served"
TERMINAL = {"completed": "pipeline_completed", "failed": "pipeline_failed", "canceled": "pipeline_canceled"}

STARTING = 30.0
"""Seconds in which a server that was just started need not answer: on a busy machine its imports take many times as
long as usual."""

Job = dict[str, Any]
Event = dict[str, Any]


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Host:
    """How the pipelines of `served/mortal.py` are served: a program and its arguments, and below which path."""

    arguments: tuple[str, ...]
    program: tuple[str, ...] = ()
    prefix: str = ""


STARLETTE = Host((f"{SERVED / 'mortal.py'}:mortal",))
DJANGO = Host(
    ("tests.reliability.served.mortal_django:application",), (sys.executable, "-m", "uvicorn"), "/jobs-of/mortal"
)
_GUNICORN = 'exec "$0" -m gunicorn -b "127.0.0.1:$UVICORN_PORT" "$@"'
DJANGO_WSGI = Host(
    ("-k", "gthread", "--threads", "8", "-w", "4", "tests.reliability.served.mortal_django:wsgi"),
    ("sh", "-c", _GUNICORN, sys.executable),
    "/jobs-of/mortal",
)


@dataclass(frozen=True)
class Store:
    """Where a store is, and what makes the time pass after which its dead workers are known to be dead."""

    url: str
    pass_time: Callable[[], object] = lambda: None


def pass_time(server: PostgreSQLServer, url: str) -> None:
    """Make it long ago that a worker in this database gave a sign of life: to the store, and to its queue."""
    database = url.partition("@/")[2].partition("?")[0]
    server.execute("UPDATE workers SET seen_at = 0", database)
    if server.execute("SELECT 1 WHERE to_regclass('asgipipe_pgqueuer') IS NOT NULL", database):
        server.execute("UPDATE asgipipe_pgqueuer SET heartbeat = 'epoch' WHERE status = 'picked'", database)


@dataclass
class Site:
    """One deployment on one store; when its server has died, the next request starts another one."""

    folder: Path
    serve: Serve
    host: Host
    store: Store
    settings: Mapping[str, str] = field(default_factory=dict)
    server: Server | None = None
    starts: int = 0
    started_at: float = 0.0
    accepted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = httpx.Client(timeout=PATIENCE, verify=False)  # noqa: S501  # loopback

    def close(self) -> None:
        self._client.close()

    # The server

    def start(self, *arguments: str, **settings: str) -> Server:
        environment = {"PYTHONPATH": str(ROOT), "ASGIPIPE_STORE_URL": self.store.url, **self.settings, **settings}
        self.starts += 1
        self.started_at = time.monotonic()
        # Nobody waits until it is ready: it may die before that.
        self.server = self.serve(
            *self.host.arguments,
            *arguments,
            cwd=self.folder,
            program=self.host.program,
            env=environment,
            ready=False,
        )
        return self.server

    def running(self) -> Server:
        """Return the server, another one if it has died."""
        if self.server is None:
            return self.start()
        status = self.server.process.poll()
        if status is None:
            return self.server
        assert status == -signal.SIGKILL, f"the server ended with {status}:\n{self.server.stderr()}"
        self.store.pass_time()
        return self.start()

    def kill(self) -> None:
        assert self.server is not None
        assert self.server.stop(signal.SIGKILL) == -signal.SIGKILL

    def is_patient(self, since: float) -> bool:
        """True while it is no wonder that something is not there yet which somebody has waited for since then."""
        return time.monotonic() < max(since, self.started_at + STARTING) + PATIENCE

    # Requests

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask until there is an answer that is not 503, of whichever server."""
        since = time.monotonic()
        while True:
            try:
                answer = self._client.request(method, f"{self.running().url}{self.host.prefix}{path}", **options)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer
            except httpx.TransportError:
                pass
            assert self.is_patient(since), f"no answer to {method} {path}:\n{self.running().stderr()}"
            time.sleep(0.01)

    def submit(self, run_name: str, **parameters: object) -> str:
        """Submit a job, with a key, until it is accepted, and return its id."""
        body = {"run_name": run_name, "parameters": parameters}
        answer = self.ask("POST", "/invoke?mode=async", json=body, headers={"idempotency-key": run_name})
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        job_id: str = answer.json()["job_id"]
        self.accepted.append(job_id)
        return job_id

    def job(self, job_id: str) -> Job:
        answer = self.ask("GET", f"/jobs/{job_id}")
        assert answer.status_code == httpx.codes.OK, answer.text
        found: Job = answer.json()
        return found

    def cancel(self, job_id: str) -> int:
        return self.ask("POST", f"/jobs/{job_id}/cancel?reason=enough").status_code

    def ended(self, job_id: str) -> Job:
        """Wait for the end of a job."""
        since = time.monotonic()
        while (job := self.job(job_id))["status"] not in TERMINAL:
            assert self.is_patient(since), f"{job} does not end:\n{self.running().stderr()}"
            time.sleep(0.02)
        return job

    def listed(self) -> list[Job]:
        """Return all jobs, the newest first."""
        found: list[Job] = []
        query = "limit=500"
        while query:
            page = self.ask("GET", f"/jobs?{query}").json()
            found += page["jobs"]
            query = page["next_cursor"] and f"limit=500&cursor={page['next_cursor']}"
        return found

    def events(self, job_id: str) -> list[Event]:
        """Return the events of a job that has ended."""
        return events_in(self.ask("GET", f"/stream/{job_id}").text)

    # The world

    def effects(self, job_id: str) -> Counter[str]:
        """Return how often a run has had each of its effects."""
        return effects_in(self.folder)[job_id]

    def processes(self, job_id: str) -> list[int]:
        """Return which process has had each effect of a run."""
        return [int(process) for each, _, process in noted_in(self.folder) if each == job_id]

    def until_noted(self, job_id: str, effect: str, times: int = 1, patience: float = PATIENCE) -> None:
        """Wait until a run has had an effect so many times, in whichever server."""
        until(lambda: self.running() and self.effects(job_id)[effect] >= times, f"{effect!r} of {job_id}", patience)

    def until_announced(self) -> None:
        """Wait until the server has said where it serves: all its workers do."""
        until(lambda: self.running().url in self.running().stderr(), "the server to serve")

    def open(self, gate: str) -> None:
        (self.folder / gate).touch()

    def has_died(self, run_name: str) -> bool:
        """True when the process has died at every point that the run name lists."""
        return all((self.folder / f"died-{run_name}-{point}").exists() for point in run_name.split("+"))

    # What must hold

    def verify_history(self, job: Job) -> list[Event]:
        """See that a job has ended once, and that its events tell so without a gap; return them."""
        events = self.events(job["job_id"])
        verify_history(job, events)
        return events

    def verify_store(self) -> None:
        """See that there is exactly what was accepted, and that all of it has ended."""
        assert Counter(job["job_id"] for job in self.listed()) == Counter(self.accepted)
        assert {job["status"] for job in self.listed()} <= TERMINAL.keys()


def verify_history(job: Job, events: Sequence[Event]) -> None:
    """See that events tell the whole story of a job, up to its one end."""
    assert [event["id"] for event in events] == [*range(1, len(events) + 1)]
    ends = [event["event_type"] for event in events if event["event_type"] in TERMINAL.values()]
    assert ends == [TERMINAL[job["status"]]]
    assert events[-1]["event_type"] == ends[0]
    assert events[-1]["data"] == job["result"]


def events_in(stream: str) -> list[Event]:
    """Return the events of an event stream."""
    return [json.loads(line.removeprefix("data:")) for line in stream.splitlines() if line.startswith("data:")]


def noted_in(folder: Path) -> list[tuple[str, str, str]]:
    """Return the effects that runs have had on a folder: the id of the run, the effect, and the process."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(run_id, effect, process) for run_id, effect, process in map(str.split, lines)]


def effects_in(folder: Path) -> defaultdict[str, Counter[str]]:
    """Return how often each run has had each of its effects."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for run_id, effect, _ in noted_in(folder):
        found[run_id][effect] += 1
    return found


class Follower(threading.Thread):
    """Follows a job over Server-Sent Events to its end, from server to server; `ids` are those that it was told."""

    def __init__(self, site: Site, job_id: str) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self.connections = 0
        self._site = site
        self._job_id = job_id
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._over() and time.monotonic() < deadline:
            try:
                self._follow()
            except httpx.TransportError:
                time.sleep(0.01)

    def until_told(self, count: int = 1) -> None:
        until(lambda: len(self.events) >= count, f"{count} events in {self.events}")

    def _over(self) -> bool:
        return bool(self.events) and self.events[-1]["event_type"] in TERMINAL.values()

    def _follow(self) -> None:
        server = self._site.server
        assert server is not None
        last = {"last-event-id": str(self.events[-1]["id"])} if self.events else {}
        path = f"{server.url}{self._site.host.prefix}/stream/{self._job_id}"
        with httpx.stream("GET", path, headers=last, timeout=PATIENCE) as answer:
            if answer.status_code != httpx.codes.OK:
                time.sleep(0.01)
                return
            self.connections += 1
            for line in answer.iter_lines():
                self.events += events_in(line)
