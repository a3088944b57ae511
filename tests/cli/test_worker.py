"""`asgipipe worker`: jobs without a server, as real processes over an SQLite store."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from asgipipe import Deployment, pipeline
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from tests.jobs.submitting import ended, found, outputs_of, submitted, working
from tests.servers.command import Command, command, serving, until

AGENT = """
import asyncio, os
from pathlib import Path
from asgipipe import pipeline

VERSION = 1

@pipeline
async def agent(gate: str | None = None) -> list[int]:
    with open("notes", "a") as notes:
        notes.write(f"{os.getpid()}\\n")
    while gate is not None and not Path(gate).exists():
        await asyncio.sleep(0.01)
    return [VERSION, os.getpid()]

def fail():
    raise RuntimeError("no model file")

@pipeline(on_init=fail)
def failing() -> int:
    return 1
"""


@pipeline
def agent(gate: str | None = None) -> list[int]:
    raise AssertionError("this process runs no jobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    return tmp_path


@contextmanager
def worker(folder: Path, *options: object) -> Iterator[Command]:
    """Run the command, and wait until it says that it runs jobs."""
    with command("worker", "agent.py:agent", "--store-url", "store.db", *options, folder=folder) as running:
        running.until_says("runs jobs")
        yield running


@asynccontextmanager
async def front(folder: Path) -> AsyncIterator[Deployment]:
    """What submits jobs and runs none."""
    async with working(agent, folder / "store.db", run_jobs=False) as deployment:
        yield deployment


def begun(folder: Path, count: int = 1) -> list[int]:
    """Wait until so many runs have begun, and return in which processes."""
    file = folder / "notes"
    until(lambda: file.exists() and len(file.read_text().splitlines()) >= count, f"{count} runs")
    return [int(line) for line in file.read_text().splitlines()]


async def states(deployment: Deployment, jobs: list[str]) -> list[JobState]:
    return [(await found(deployment.service.jobs, job_id)).state for job_id in jobs]


def test_it_runs_what_a_server_accepts(folder: Path) -> None:
    """A server whose run_jobs is false leaves its jobs to a worker, which reads the same settings file."""
    (folder / "settings.yaml").write_text("settings: {deployment: {store_url: store.db, run_jobs: false}}\n")
    given = ("agent.py:agent", "-c", "settings.yaml")
    with serving(*given, folder=folder) as server, command("worker", *given, folder=folder) as running:
        with server.client() as client:
            accepted = client.post("/invoke?mode=async", json={}).json()
            until(lambda: client.get(accepted["status_url"]).json()["status"] == "completed", "the job")
            _, pid = client.get(accepted["status_url"]).json()["result"]["outputs"]["output"]
        assert pid == running.process.pid
        assert (running.stop(), server.stop()) == (0, 0)


def test_what_it_says(folder: Path) -> None:
    """It names the deployment and its store, and listens nowhere."""
    with worker(folder) as running:
        running.until_says(r"agent: jobs in store\.db")
        assert psutil.Process(running.process.pid).net_connections() == []
        assert running.stop() == 0


def test_what_it_says_as_json(folder: Path, postgresql_url: str) -> None:
    """Each line is a record of the log, and none of them holds the password of the store."""
    url = postgresql_url.replace("postgres@", "postgres:secret@")
    with worker(folder, "--log-format", "json", "--store-url", url) as running:
        running.until_says(r'"message": ?"agent: jobs in postgresql://postgres:\*+@')
        assert running.stop() == 0
        assert [json.loads(line)["level"] for line in running.output.splitlines()]
        assert "secret" not in running.output


@pytest.mark.parametrize("workers", [1, 2])
def test_it_finishes_what_it_has_begun(folder: Path, workers: int) -> None:
    """Told to stop it begins nothing more, lets the jobs that run finish, and ends with status 0."""

    async def main() -> None:
        async with front(folder) as deployment:
            with worker(folder, "--workers", workers, "--job-concurrency", 2) as running:
                first = (await submitted(deployment, {"gate": "open"})).id
                await asyncio.to_thread(begun, folder)
                running.signal(signal.SIGTERM)
                await asyncio.to_thread(running.until_says, r"draining, 1 in flight")
                second = (await submitted(deployment)).id
                await asyncio.sleep(0.1)
                assert await states(deployment, [first, second]) == [JobState.RUNNING, JobState.PENDING]
                (folder / "open").touch()
                assert await asyncio.to_thread(running.status) == 0
            assert await states(deployment, [first, second]) == [JobState.COMPLETED, JobState.PENDING]

    asyncio.run(main())


def test_it_hands_back_what_it_cannot_finish(folder: Path) -> None:
    """What still runs after drain_timeout is pending again, which counts as no failure, and the status says so."""

    async def main() -> None:
        async with front(folder) as deployment:
            with worker(folder, "--workers", 2, "--drain-timeout", 0.2) as running:
                job_id = (await submitted(deployment, {"gate": "never"})).id
                await asyncio.to_thread(begun, folder)
                assert await asyncio.to_thread(running.stop) == 0
            job = await found(deployment.service.jobs, job_id)
            assert (job.state, job.losses, job.failures) == (JobState.PENDING, 0, 0)

    asyncio.run(main())


def test_a_second_signal(folder: Path) -> None:
    """It does not wait any longer, and hands the jobs back at once."""

    async def main() -> None:
        async with front(folder) as deployment:
            with worker(folder) as running:
                job_id = (await submitted(deployment, {"gate": "never"})).id
                await asyncio.to_thread(begun, folder)
                running.signal(signal.SIGINT)
                await asyncio.to_thread(running.until_says, "draining")
                running.signal(signal.SIGINT)
                assert await asyncio.to_thread(running.status) == 0
            assert await states(deployment, [job_id]) == [JobState.PENDING]

    asyncio.run(main())


def test_a_worker_that_is_killed(folder: Path) -> None:
    """Another one of the command has its job, and it is replaced."""

    async def main() -> None:
        async with front(folder) as deployment:
            with worker(folder, "--workers", 2) as running:
                job_id = (await submitted(deployment, {"gate": "open"})).id
                (pid,) = await asyncio.to_thread(begun, folder)
                os.kill(pid, signal.SIGKILL)
                _, other = await asyncio.to_thread(begun, folder, 2)
                (folder / "open").touch()
                job = await ended(deployment, job_id)
                assert (outputs_of(job), job.losses, other != pid) == ({"output": [1, other]}, 1, True)
                await asyncio.to_thread(running.until_says, r"is replaced[\s\S]*worker \d+ serves")
                assert await asyncio.to_thread(running.stop) == 0

    asyncio.run(main())


def test_a_reload(folder: Path) -> None:
    """After SIGHUP new workers run the new code, and those before them finish what they have begun."""

    async def main() -> None:
        async with front(folder) as deployment:
            with worker(folder, "--workers", 2) as running:
                before = (await submitted(deployment, {"gate": "open"})).id
                await asyncio.to_thread(begun, folder)
                (folder / "agent.py").write_text(AGENT.replace("VERSION = 1", "VERSION = 2"))
                running.signal(signal.SIGHUP)
                await asyncio.to_thread(running.until_says, "reloaded: 2 new workers")
                await asyncio.to_thread(running.until_says, "draining", 2)
                after = await ended(deployment, (await submitted(deployment)).id)
                (folder / "open").touch()
                assert [version_of(job) for job in (await ended(deployment, before), after)] == [1, 2]
                assert await asyncio.to_thread(running.stop) == 0

    asyncio.run(main())


def version_of(job: Job) -> int:
    outputs = outputs_of(job)
    assert isinstance(outputs, dict)
    version: int = outputs["output"][0]
    return version


# What is refused

Failing = Callable[[], None]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["agent.py:nothing"], 2, "nothing"),
        (["agent.py:agent", "--store-url", "memory:"], 2, "store_url: jobs in the memory of a worker"),
        (["agent.py:agent", "--job-queue", "postgres"], 2, "set store_url to postgresql://"),
        (["agent.py:agent", "--no-run-jobs"], 2, "No such option"),
        (["agent.py:failing"], 3, "no model file"),
        (["agent.py:failing", "--workers", "2"], 3, "no model file"),
    ],
)
def test_what_does_not_start(folder: Path, arguments: list[str], status: int, message: str) -> None:
    """One message says what is wrong, and the exit status tells whose mistake it is."""
    with command("worker", *arguments, folder=folder) as running:
        assert running.status() == status
        assert message in running.output
        assert "Traceback" not in running.output


def test_its_help(folder: Path) -> None:
    """It lists the settings that mean something to a worker, and no others."""
    with command("worker", "--help", folder=folder) as running:
        assert running.status() == 0
        flags = set(re.findall(r"--[\w-]+", running.output))
    assert {"--store-url", "--job-queue", "--job-concurrency", "--workers", "--drain-timeout", "--config"} <= flags
    assert flags.isdisjoint({"--host", "--port", "--run-jobs", "--invoke-url-path", "--auth-key", "--max-queue"})
