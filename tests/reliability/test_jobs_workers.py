"""Jobs in servers of several processes: one is killed, all are replaced, one is frozen."""

import os
import signal
import threading
import time
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from asgipipe.testing.client import soon
from tests.conftest import PATIENCE
from tests.reliability.conftest import MakeSite
from tests.reliability.killing import DJANGO_WSGI, STARLETTE, Host, Site, Store, until
from tests.servers.command import needs_gunicorn

SOON = 5.0
"""Seconds in which the jobs of a killed worker are promised to be with another one, beside its lease."""
LEASE = 10.0

pytestmark = pytest.mark.timeout(120)

UVICORN = Host((*STARLETTE.arguments, "--workers", "2"))
GUNICORN_HOST = Host((*STARLETTE.arguments, "--server", "gunicorn", "--workers", "2"))
PRELOADED = Host((*GUNICORN_HOST.arguments, '--gunicorn-kwargs={"preload_app": true}'))

SERVERS = [
    pytest.param(UVICORN, id="uvicorn"),
    pytest.param(GUNICORN_HOST, id="gunicorn", marks=needs_gunicorn),
    pytest.param(PRELOADED, id="gunicorn-preload", marks=needs_gunicorn),
]


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store.db"))


def gated(site: Site, count: int) -> list[str]:
    """Submit jobs that wait, and return them when all of them do."""
    jobs = [site.submit(f"gated-{number}", gated="gate") for number in range(count)]
    for job_id in jobs:
        site.until_noted(job_id, "waiting")
    site.until_announced()
    return jobs


def kill_one(site: Site, jobs: list[str]) -> list[str]:
    """Kill a process that runs some of these jobs, and return those."""
    owners = {job_id: site.processes(job_id)[-1] for job_id in jobs}
    killed = owners[jobs[0]]
    os.kill(killed, signal.SIGKILL)
    return [job_id for job_id, owner in owners.items() if owner == killed]


def verify(site: Site, jobs: list[str], killed: list[str]) -> None:
    site.open("gate")
    for job_id in jobs:
        job = site.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2 if job_id in killed else 1), job
        effects = site.effects(job_id)
        assert [effects[step] for step in ("first", "second", "third")] == [1, 1, 1]
        site.verify_history(job)
    site.verify_store()


def worker_processes(site: Site, count: int) -> set[int]:
    """Wait until the server has so many worker processes, and return them."""

    def found() -> set[int]:
        assert site.server is not None
        children = psutil.Process(site.server.process.pid).children()
        return {child.pid for child in children if "resource_tracker" not in str(child.cmdline())}

    until(lambda: len(found()) == count, f"{count} workers")
    return found()


@pytest.mark.parametrize("host", SERVERS)
def test_a_worker_is_killed(make_site: MakeSite, file_store: Store, host: Host) -> None:
    """Rows 12 and 26: the jobs of a killed worker process are taken over within seconds and go on after their last
    step, those of the others are not disturbed, and there are as many workers as before.
    """
    site = make_site(host, file_store, ASGIPIPE_JOB_CONCURRENCY="4")
    site.start()
    site.listed()
    workers = worker_processes(site, 2)
    jobs = gated(site, 8)
    killed = kill_one(site, jobs)
    assert len(killed) == 4
    at = time.monotonic()
    for job_id in killed:
        site.until_noted(job_id, "waiting", 2)
    assert time.monotonic() - at < soon(SOON)
    assert worker_processes(site, 2) != workers
    verify(site, jobs, killed)


def test_the_last_attempt_of_a_killed_worker(make_site: MakeSite, file_store: Store) -> None:
    """Row 12: a job that may not be begun again has failed as `interrupted`, also within seconds."""
    site = make_site(UVICORN, file_store, ASGIPIPE_JOB_MAX_ATTEMPTS="1")
    jobs = gated(site, 1)
    kill_one(site, jobs)
    at = time.monotonic()
    job = site.ended(jobs[0])
    assert time.monotonic() - at < soon(SOON)
    assert (job["status"], job["error_code"], job["attempt"]) == ("failed", "interrupted", 1)
    assert site.effects(jobs[0]) == {"first": 1, "second": 1, "waiting": 1}
    site.verify_history(job)


def test_the_lease_in_postgresql(make_site: MakeSite, postgresql_url: str) -> None:
    """Row 12: where a worker's life is a matter of time, its jobs are taken over when that is over."""
    site = make_site(UVICORN, Store(postgresql_url), ASGIPIPE_JOB_CONCURRENCY="2")
    jobs = gated(site, 4)
    killed = kill_one(site, jobs)
    for job_id in killed:
        site.until_noted(job_id, "waiting", 2, patience=LEASE + PATIENCE)
    verify(site, jobs, killed)


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@needs_gunicorn
def test_a_wsgi_host(make_site: MakeSite, file_store: Store, preload: tuple[str, ...]) -> None:
    """Rows 12 and 26: inside a WSGI Django with four workers, jobs run, and those of a killed one are taken over."""
    pytest.importorskip("django")
    host = replace(DJANGO_WSGI, arguments=(*preload, *DJANGO_WSGI.arguments))
    site = make_site(host, file_store, ASGIPIPE_JOB_CONCURRENCY="2")
    # A worker there begins to look for jobs when it has its first request.
    with futures.ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda number: site.submit(f"gated-{number}", gated="gate"), range(2)))
    until(lambda: all(site.listed() and site.effects(job_id)["waiting"] for job_id in jobs), "the jobs to begin")
    killed = kill_one(site, jobs)
    at = time.monotonic()
    until(lambda: all(site.listed() and site.effects(job_id)["waiting"] == 2 for job_id in killed), "the take-over")
    assert time.monotonic() - at < soon(SOON)
    verify(site, jobs, killed)


class Submitting(threading.Thread):
    """Submits short jobs, one after the other, until it is told to end."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.jobs: list[str] = []
        self._site = site
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            self.jobs.append(self._site.submit(f"short-{len(self.jobs)}"))
            time.sleep(0.01)

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("host", SERVERS[:2])
def test_reloads_lose_no_job(make_site: MakeSite, file_store: Store, host: Host) -> None:
    """Row 25: under ten SIGHUPs every submit is accepted, and every job runs to its end, begun once.

    Not always with the number 1: one that was claimed just when its worker began to drain is handed over unbegun, and
    a number is never given twice.
    """
    site = make_site(host, file_store, ASGIPIPE_DRAIN_TIMEOUT="20")
    server = site.start()
    site.listed()
    submitting = Submitting(site)
    for number in range(1, 11):
        until(lambda: len(submitting.jobs) >= 3 * number, "jobs")  # noqa: B023  # called here only
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.stderr().count("new workers serve") >= number, "the reload")  # noqa: B023  # see above
    submitting.end()
    for job_id in submitting.jobs:
        job = site.ended(job_id)
        assert job["status"] == "completed", job
        begun = [event["data"] for event in site.verify_history(job) if event["event_type"] == "pipeline_started"]
        assert [data["attempt"] for data in begun] == [job["attempt"]]
        assert site.effects(job_id) == {"first": 1, "second": 1, "third": 1}
    site.verify_store()
    assert site.starts == 1
    assert server.stop() == 0, server.stderr()


def test_a_frozen_owner_thaws(make_site: MakeSite, job_store: Store) -> None:
    """Row 15: when its owner is frozen, another server has the job if the owner's sign of life is a matter of time, and
    what the thawed one then writes is refused; where it is a lock, the job waits. Either way it ends once.
    """
    frozen, other = (make_site(STARLETTE, job_store) for _ in range(2))
    job_id = frozen.submit("gated", gated="gate")
    frozen.until_noted(job_id, "waiting")
    other.listed()
    server = frozen.server
    assert server is not None
    server.process.send_signal(signal.SIGSTOP)
    timed = job_store.url.startswith("postgresql:")
    job_store.pass_time()
    if timed:
        other.until_noted(job_id, "waiting", 2)
    other.open("gate")
    if timed:
        before = other.ended(job_id)
    server.process.send_signal(signal.SIGCONT)
    if timed:
        until(lambda: f"job {job_id}: attempt 1 is not its owner any more" in server.stderr(), "the refusal")
        assert other.job(job_id) == before
    job = frozen.ended(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2 if timed else 1)
    assert frozen.effects(job_id)["first"] == 1
    assert frozen.effects(job_id)["third"] <= job["attempt"]
    frozen.verify_history(job)
    frozen.verify_store()
    assert server.stop() == 0, server.stderr()
