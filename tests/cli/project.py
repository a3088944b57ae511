"""A folder with pipelines, whose deployments are made with the commands and end with the test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from asgipipe.cli.main import cli
from asgipipe.errors import UserError
from tests.conftest import PATIENCE

PIPELINES = '''
import time
from collections.abc import Iterator
from enum import Enum

from asgipipe import pipeline


class Unit(Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@pipeline
def weather(
    city: str, days: int = 3, dry: bool = False, unit: Unit = Unit.CELSIUS, json: str = "none"
) -> dict[str, object]:
    """Say how the weather will be."""
    print("asked for", city)
    if city == "Atlantis":
        raise LookupError("there is no Atlantis")
    return {"city": city, "days": days, "dry": dry, "unit": unit, "json": json}


@pipeline
def count(to: int = 3) -> Iterator[int]:
    for number in range(to):
        yield number
        time.sleep(0.02)


@pipeline
def ping() -> str:
    return "pong"


def raises() -> None:
    raise RuntimeError("the hook has no model")
'''


@dataclass(frozen=True)
class Done:
    """What a command has come to."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # as many shapes as there are commands
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Project:
    """`asgipipe` in a folder of its own, with a store and keys of its own."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")}
        return {**kept, "ASGIPIPE_CONFIG_DIR": str(self.folder / "config"), "ASGIPIPE_OWNER": "ada", "TZ": "UTC"}

    @property
    def store(self) -> str:
        return str(self.folder / ".asgipipe" / "store.db")

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "asgipipe", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs something in the background has it, and what that starts, ignore ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )

    def run(self, *arguments: str, **environ: str) -> Done:
        """Run a command in a process of its own; one that loads pipelines has to, since they stay loaded."""
        process = self.start(*arguments, **environ)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, stdout, stderr)

    def deploy(self, target: str, *arguments: str, **environ: str) -> Done:
        done = self.run("deploy", target, "--port=0", *arguments, **environ)
        assert done.status == 0, done.stderr
        return done

    def ask(self, *arguments: str, stdin: str | None = None, **environ: str) -> Done:
        """Run a command in this process, which is quicker."""
        runner = CliRunner(env={**self.environ, **environ})
        with chdir(self.folder):
            result = runner.invoke(cli, arguments, input=stdin, prog_name="asgipipe")
        if isinstance(result.exception, UserError):
            return Done(result.exception.exit_code, result.stdout, f"{result.stderr}Error: {result.exception}")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def delete_all(self) -> None:
        for found in self.ask("deployment", "list", "--json").json["deployments"]:
            self.ask("deployment", "delete", found["name"], "--yes")


@contextmanager
def project_in(folder: Path) -> Iterator[Project]:
    (folder / "pipelines.py").write_text(PIPELINES)
    project = Project(folder)
    yield project
    project.delete_all()
