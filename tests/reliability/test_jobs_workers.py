"""Jobs in servers of several processes: one is killed, all are replaced, one is frozen."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.postgresql import PostgreSQLServer
from tests.reliability.conftest import MakeSite
from tests.reliability.killing import DJANGO_WSGI, STARLETTE, Host, Site, Store, until
from tests.servers.command import GUNICORN, needs_gunicorn

SOON = 5.0
"""Seconds in which the jobs of a killed worker are promised to be with another one, beside its lease."""
LEASE = 10.0

UVICORN = Host(STARLETTE.arguments + ("--workers", "2"))
GUNICORN_HOST = Host(STARLETTE.arguments + ("--server", "gunicorn", "--workers", "2"))
PRELOADED = Host(GUNICORN_HOST.arguments + ('--gunicorn-kwargs={"preload_app": true}',))

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


@pytest.mark.parametrize("host", SERVERS)
def test_a_worker_is_killed(make_site: MakeSite, file_store: Store, host: Host) -> None:
    """Rows 12 and 26: the jobs of a killed worker process are taken over within seconds and go on after their last
    step, those of the others are not disturbed, and there are as many workers as before.
    """
    site = make_site(host, file_store, ASGIPIPE_JOB_CONCURRENCY="4")
    site.start()
    site.listed()
    workers = until_workers(site, 2)
    jobs = gated(site, 8)
    killed = kill_one(site, jobs)
    assert len(killed) == 4
    at = time.monotonic()
    for job_id in killed:
        site.until_noted(job_id, "waiting", 2)
    assert time.monotonic() - at < SOON
    assert until_workers(site, 2) != workers
    verify(site, jobs, killed)
