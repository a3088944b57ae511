"""A command that deploys is killed at a point, and repaired by running it again."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import PATIENCE, free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(os.name != "posix", reason="the local deployer needs it")]

PROGRAM = Path(__file__).with_name("served") / "deploying.py"

FIRST = ["after-add_deployment-1", "before-start-1", "after-start-1", "before-save-3", "before-release-1"]
UPDATE = ["after-start-1", "before-save-3", "after-save-3", "after-retire-1"]


class Project:
    """A folder with a pipeline that says its version, and its deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.write("1")

    def write(self, version: str) -> None:
        (self.folder / "greeting.py").write_text(f"def greet() -> str:\n    return 'version {version}'\n")

    def command(self, *arguments: str, point: str | None = None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, str(PROGRAM), point] if point else [sys.executable, "-m", "asgipipe"]
        environment = {**os.environ, "ASGIPIPE_CONFIG_DIR": str(self.folder / "home"), "ASGIPIPE_OWNER": "ada"}
        return subprocess.run(
            [*program, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    def deploy(self, *arguments: str, point: str | None = None) -> subprocess.CompletedProcess[str]:
        given = ("--name=greeting", f"--port={self.port}", "--no-auth", *arguments)
        return self.command("deploy", "greeting.py", *given, point=point)

    def told(self, *arguments: str) -> str:
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def greeting(self) -> str:
        answer = httpx.post(f"http://127.0.0.1:{self.port}/invoke", timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["outputs"]["output"])

    def servers(self) -> list[psutil.Process]:
        """Return the processes that serve from this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.cwd() == str(self.folder)
                    and "serve" in process.cmdline()
                    and "asgipipe" in process.cmdline()
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.parent() not in found and "-m" in process.cmdline()]

    def verify(self, version: str) -> None:
        """One instance serves the version, and the registry says so."""
        assert self.greeting() == f"version {version}"
        described = json.loads(self.told("deployment", "describe", "greeting", "--json"))
        assert (described["status"], described["reason"]) == ("RUNNING", None)
        assert described["history"][0]["action"] == "deployed"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    done = project.command("deployment", "delete", "greeting")
    left = project.servers()
    for process in left:
        process.kill()
    assert done.returncode == 0, done.stderr
    assert not left


@pytest.mark.parametrize("point", FIRST)
def test_a_first_deployment(project: Project, point: str) -> None:
    """The same command again brings it up: one instance, ready, with nothing beside it."""
    killed = project.deploy(point=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = project.deploy()
    if again.returncode:  # it had come to serve: there is nothing to repair
        assert "greeting' exists: --update" in again.stderr
        assert point == "before-release-1"
    else:
        project.verify("1")
    assert project.greeting() == "version 1"
    assert len({process.pid for process in project.servers()}) <= 2


@pytest.mark.parametrize("point", UPDATE)
def test_an_update(project: Project, point: str) -> None:
    """Requests are answered all the time, by the old or the new one, and the same command again brings the new one."""
    assert project.deploy().returncode == 0
    project.write("2")
    failures: list[object] = []
    ended = threading.Event()

    def hammer() -> None:
        while not ended.is_set():
            try:
                if project.greeting() not in {"version 1", "version 2"}:
                    failures.append("a wrong answer")
            except (httpx.HTTPError, AssertionError) as error:
                failures.append(error)

    client = threading.Thread(target=hammer)
    client.start()
    try:
        killed = project.deploy("--update", point=point)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert project.deploy("--update").returncode == 0
    finally:
        ended.set()
        client.join()
    assert failures == []
    project.verify("2")
