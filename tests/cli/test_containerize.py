"""`asgipipe containerize`: the files that an image is made of."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = """
from asgipipe import pipeline

@pipeline
def weather(city: str) -> str:
    return f"sunny in {city}"
"""


@pytest.fixture
def containerize(tmp_path: Path) -> Run:
    """Run the command in a project that holds one pipeline."""
    (tmp_path / "agent.py").write_text(PROGRAM, encoding="utf-8")

    def containerize(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "asgipipe", "containerize", "agent.py", "--extra", "gunicorn", *arguments]
        environ = {**os.environ, **environment}
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=50)

    return containerize


def content(folder: Path) -> dict[str, bytes]:
    """Return the files by their path, but for a wheel of the checkout, whose sources may be edited meanwhile."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.suffix != ".whl"}


def test_the_folder_holds_all_that_is_needed(containerize: Run, tmp_path: Path) -> None:
    """A second run writes the same bytes again, though the first one's output lies in the project."""
    done = containerize()
    assert done.returncode == 0, done.stderr
    assert "docker build --tag weather container" in done.stdout
    assert "--publish 127.0.0.1:8000:8000" in done.stdout
    first = content(tmp_path / "container")
    assert first["app/agent.py"] == PROGRAM.encode()
    assert {"Dockerfile", ".dockerignore", "settings.yaml", "build/asgipipe.txt"} <= set(first)
    assert containerize().returncode == 0
    assert content(tmp_path / "container") == first


def test_secrets_are_told_and_not_written(containerize: Run, tmp_path: Path) -> None:
    """A key and a password are in no file; the command that runs the image names the variables they belong into."""
    (tmp_path / "settings.yaml").write_text(
        "settings:\n  deployment:\n    auth_key: a-canary-for-callers-0123456789\n", encoding="utf-8"
    )
    store = "postgresql://app:canary@db.example/jobs"
    done = containerize("-c", "settings.yaml", "--json", ASGIPIPE_STORE_URL=store)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["secrets"] == ["ASGIPIPE_AUTH_KEY", "ASGIPIPE_STORE_URL"]
    assert "--env ASGIPIPE_AUTH_KEY --env ASGIPIPE_STORE_URL" in document["commands"][1]
    assert "canary" not in done.stdout
    files = content(tmp_path / "container")
    assert set(files) <= set(document["files"])
    assert not [name for name, data in files.items() if b"canary" in data]


def test_options_are_settings_of_the_image(containerize: Run, tmp_path: Path) -> None:
    """Base image, packages, requirements and variables of the build are where they belong."""
    options = ["--base-image", "registry.example/python:3", "--apt-package", "libgomp1", "--requirement", "numpy<3"]
    done = containerize(*options, "--build-arg", "TOKEN", "--output", "out", "--port", "9000", TOKEN="canary")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "Dockerfile").read_text(encoding="utf-8")
    for line in ("FROM registry.example/python:3 AS base", "ARG TOKEN", "EXPOSE 9000"):
        assert line in text.splitlines()
    assert "libgomp1" in text
    assert "canary" not in text
    assert b"numpy<3" in (tmp_path / "out" / "build" / "asgipipe.txt").read_bytes()
    assert "docker build --build-arg TOKEN" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--apt-package", "curl; true"], "apt_packages"),
        (["--python-version", "latest"], "python_version"),
        (["--store-url", "/var/lib/store.db"], "store_url"),
        (["--output", "."], "--output"),
    ],
)
def test_mistakes_are_one_message(containerize: Run, arguments: list[str], message: str) -> None:
    """What cannot be is said in one message, and nothing is written."""
    done = containerize(*arguments)
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
