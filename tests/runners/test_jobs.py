"""Jobs of real server processes that share a store: what outlives a kill, a stop, a reload."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.testing.client import soon
from tests.conftest import Serve, Server
from tests.jobs.submitting import PATIENCE, ended, events_of, found, outputs_of, submitted, working
from tests.servers.command import needs_gunicorn

AGENT = """
import asyncio, os, time
from pathlib import Path
from asgipipe import get_step_context, pipeline, step

@step
def note(folder: str, text: str) -> int:
    with open(Path(folder, "notes"), "a") as notes:
        notes.write(f"{get_step_context().run_id} {os.getpid()} {text}\\n")
    return os.getpid()

@step
async def wait(folder: str) -> None:
    while not Path(folder, "open").exists():
        await asyncio.sleep(0.01)

@pipeline
async def agent(folder: str, seconds: float = 0.0) -> int:
    note(folder, "first")
    await (asyncio.sleep(seconds) if seconds else wait(folder))
    return note(folder, "last")
"""


class Site:
    """A folder with the pipeline, its store, and what its runs note down."""

    def __init__(self, folder: Path, serve: Serve) -> None:
        self.folder = folder
        self.store = folder / "store.db"
        self.file = folder / "agent.py"
        self.file.write_text(AGENT)
        self._serve = serve

    def serve(self, *options: str, **settings: str) -> Server:
        given = {"ASGIPIPE_STORE_URL": str(self.store), "ASGIPIPE_DRAIN_TIMEOUT": "0.5", **settings}
        return self._serve(f"{self.file}:agent", *options, env=given)

    @property
    def parameters(self) -> dict[str, object]:
        return {"folder": str(self.folder)}

    def notes(self) -> list[list[str]]:
        file = self.folder / "notes"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def open(self) -> None:
        (self.folder / "open").touch()

    def begun(self, count: int = 1) -> None:
        """Wait until so many runs have begun."""
        wait_for(lambda: sum(text == "first" for _, _, text in self.notes()) >= count)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def agent(folder: str, seconds: float = 0.0) -> int:
    raise AssertionError("this process runs no jobs")


async def submit_one(site: Site) -> str:
    async with working(agent, site.store, run_jobs=False) as front:
        return (await submitted(front, {**site.parameters, "seconds": 0.0})).id


async def end_of(site: Site, job_id: str) -> Job:
    async with working(agent, site.store, run_jobs=False) as front:
        return await ended(front, job_id)


@pytest.fixture
def site(tmp_path: Path, serve: Serve) -> Site:
    return Site(tmp_path, serve)


def test_a_killed_server(site: Site) -> None:
    """After kill -9 another process has the job within half a second or so; whoever follows it sees one history."""
    first = site.serve()

    async def main() -> None:
        async with working(agent, site.store, run_jobs=False) as front:
            accepted = await submitted(front, {**site.parameters, "seconds": 0.0})
            following = asyncio.ensure_future(events_of(front.service.jobs, accepted.id))
            await asyncio.to_thread(site.begun)
            second = await asyncio.to_thread(site.serve, ASGIPIPE_JOB_RESUME="false")
            killed = time.time()
            os.kill(int(site.notes()[0][1]), signal.SIGKILL)
            await asyncio.to_thread(site.begun, 2)
            site.open()
            events = await following
            job = await found(front.service.jobs, accepted.id)
            assert (job.state, job.attempt, job.losses) == (JobState.COMPLETED, 2, 1)
            assert job.started_at is not None
            assert job.started_at - killed < soon(2.0)  # 0.3 on a quiet machine
            assert [event.id for event in events] == [*range(1, len(events) + 1)]
            assert [event.type for event in events].count("pipeline_completed") == 1
            assert first.process.wait(PATIENCE) != 0
            assert second.stop() == 0

    asyncio.run(main())


def test_the_last_attempt(site: Site) -> None:
    """A job whose worker was lost `job_max_attempts` times has failed as interrupted: the next start sees to that."""
    first = site.serve(ASGIPIPE_JOB_MAX_ATTEMPTS="1")

    async def main() -> Job:
        async with working(agent, site.store, run_jobs=False, job_max_attempts=1) as front:
            accepted = await submitted(front, {**site.parameters, "seconds": 0.0})
            await asyncio.to_thread(site.begun)
            await asyncio.to_thread(first.stop, signal.SIGKILL)
            await asyncio.to_thread(site.serve)
            return await ended(front, accepted.id)

    job = asyncio.run(main())
    assert (job.state, job.error_code, job.attempt, job.losses) == (JobState.FAILED, "interrupted", 1, 1)
    assert len(site.notes()) == 1


def test_a_stop_hands_over(site: Site) -> None:
    """A job that does not finish within the grace is pending when the server ends, in time and with status 0."""
    first = site.serve()
    job_id = asyncio.run(submit_one(site))
    site.begun()
    begun = time.monotonic()
    assert first.stop() == 0, first.stderr()
    assert time.monotonic() - begun < soon(0.5 + 1.0 + 0.5)  # the grace, a second, and what a busy machine takes
    assert f"job {job_id} was handed back" in first.stderr()
    site.open()
    site.serve()
    job = asyncio.run(end_of(site, job_id))
    assert (job.state, job.attempt, job.losses) == (JobState.COMPLETED, 2, 0)


def test_a_stop_lets_jobs_finish(site: Site) -> None:
    """A job that finishes within the grace is completed when the server ends."""
    server = site.serve(ASGIPIPE_DRAIN_TIMEOUT="20")

    async def main() -> None:
        async with working(agent, site.store, run_jobs=False) as front:
            accepted = await submitted(front, {**site.parameters, "seconds": 0.5})
            await asyncio.to_thread(site.begun)
            assert await asyncio.to_thread(server.stop) == 0
            job = await found(front.service.jobs, accepted.id)
            assert (job.state, job.attempt) == (JobState.COMPLETED, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        pytest.param(("--workers", "2"), {}, id="uvicorn"),
        pytest.param(
            ("--workers", "2", "--server", "gunicorn"),
            {"ASGIPIPE_GUNICORN_KWARGS": '{"preload_app": true}'},
            id="gunicorn-preload",
            marks=needs_gunicorn,
        ),
    ],
)
def test_several_workers(site: Site, options: tuple[str, ...], settings: dict[str, str]) -> None:
    """All worker processes run jobs of the one store, each job once; a reload in between loses none."""
    server = site.serve(*options, ASGIPIPE_JOB_CONCURRENCY="2", ASGIPIPE_DRAIN_TIMEOUT="5", **settings)

    async def main() -> list[Job]:
        async with working(agent, site.store, run_jobs=False) as front:
            parameters: dict[str, object] = {**site.parameters, "seconds": 0.05}
            accepted = [await submitted(front, parameters) for _ in range(20)]
            await asyncio.to_thread(site.begun, 4)
            server.process.send_signal(signal.SIGHUP)
            accepted += [await submitted(front, parameters) for _ in range(20)]
            return [await ended(front, job.id) for job in accepted]

    jobs = asyncio.run(main())
    assert {(job.state, job.attempt, job.losses) for job in jobs} == {(JobState.COMPLETED, 1, 0)}
    last = [note[0] for note in site.notes() if note[2] == "last"]
    assert sorted(last) == sorted(job.id for job in jobs)
    assert len({str(outputs_of(job)) for job in jobs}) >= 2
    assert server.stop() == 0
