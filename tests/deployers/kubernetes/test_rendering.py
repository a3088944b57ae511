"""`asgipipe kubernetes render`: what would be applied, as YAML."""

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lightkube")

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = """
from asgipipe import pipeline

@pipeline
def weather(city: str) -> str:
    return f"sunny in {city}"
"""
KEY = "correct-horse-battery"


@pytest.fixture
def asgipipe(tmp_path: Path) -> Run:
    """Run a command in a project that holds one pipeline, on a machine that knows no cluster."""
    (tmp_path / "agent.py").write_text(PROGRAM, encoding="utf-8")

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        environ = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none"), **environment}
        command = [sys.executable, "-m", "asgipipe", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=50)

    return run


def rendered(asgipipe: Run, *arguments: str, **environment: str) -> list[dict[str, dict[str, str]]]:
    command = ("kubernetes", "render", "agent.py", "--kubernetes", "image=weather:3", *arguments)
    done = asgipipe(*command, **environment)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_what_is_rendered_is_the_same_each_time(asgipipe: Run) -> None:
    """Two processes print the same bytes, and nothing of a secret."""
    arguments = ("kubernetes", "render", "agent.py", "--kubernetes", "image=weather:3", "--env", "TOKEN=canary")
    first, second = asgipipe(*arguments, ASGIPIPE_AUTH_KEY=KEY), asgipipe(*arguments, ASGIPIPE_AUTH_KEY=KEY)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    for secret in (KEY, "canary"):
        assert secret not in first.stdout
        assert base64.b64encode(secret.encode()).decode() not in first.stdout


def test_settings_and_flags_are_in_the_settings_file(asgipipe: Run) -> None:
    """The ConfigMap holds what the command line says, as the settings file of the pods."""
    documents = rendered(asgipipe, "--max-concurrency", "7", "--root-url-path", "/api")
    (settings,) = [each for each in documents if str(each["kind"]) == "ConfigMap"]
    deployment = yaml.safe_load(settings["data"]["settings.yaml"])["settings"]["deployment"]
    assert deployment == {"max_concurrency": "7", "root_url_path": "/api"}


def test_secrets_are_printed_on_demand(asgipipe: Run, tmp_path: Path) -> None:
    """With `--with-secrets` the documents can be applied: the digest of the key is there, and the file is private."""
    done = asgipipe(
        *("kubernetes", "render", "agent.py", "--kubernetes", "image=weather:3", "--with-secrets"),
        *("--output", "all.yaml"),
        ASGIPIPE_AUTH_KEY=KEY,
    )
    assert done.returncode == 0, done.stderr
    file = tmp_path / "all.yaml"
    (secret,) = [
        each
        for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if each["kind"] == "Secret" and "ASGIPIPE_AUTH_KEY" in each["data"]
    ]
    found = base64.b64decode(secret["data"]["ASGIPIPE_AUTH_KEY"]).decode()
    assert found.startswith('["sha256:')
    assert KEY not in found
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_open_is_rendered_by_mistake(asgipipe: Run) -> None:
    """What can be applied has a key, or was said to have none."""
    arguments = ("kubernetes", "render", "agent.py", "--kubernetes", "image=weather:3", "--with-secrets")
    refused = asgipipe(*arguments)
    assert refused.returncode == 2
    assert "--no-auth" in refused.stderr
    assert rendered(asgipipe, "--with-secrets", "--no-auth")


def test_a_registered_deployer_and_a_snapshot_are_rendered(asgipipe: Run) -> None:
    """The settings are the deployer's, with those of the command line on top; a snapshot has its own."""
    register = ("deployer", "register", "cluster", "--flavor", "kubernetes", "--no-check")
    assert asgipipe(*register, "--set", "image=weather:3", "--set", "namespace=services").returncode == 0
    assert asgipipe("snapshot", "create", "agent.py", "--name", "monday", "--max-concurrency", "3").returncode == 0
    done = asgipipe("kubernetes", "render", "monday", "--deployer", "cluster", "--kubernetes", "image=weather:4")
    documents = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert documents["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == "weather:4"
    assert {each["metadata"]["namespace"] for each in documents.values()} == {"services"}
    assert '"max_concurrency": "3"' in documents["ConfigMap"]["data"]["settings.yaml"]
    refused = asgipipe("kubernetes", "render", "monday", "--deployer", "cluster", "--max-concurrency", "4")
    assert (refused.returncode, "has its settings" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("agent.py",), 2, "give image"),
        (("tuesday", "--kubernetes", "image=a"), 1, "no snapshot 'tuesday'"),
        (("other.py", "--kubernetes", "image=a"), 1, "no snapshot 'other.py'"),
        (("agent.py", "--deployer", "local"), 1, "of flavor local"),
        (("agent.py", "--kubernetes", "image"), 2, "FIELD=VALUE"),
    ],
)
def test_mistakes_are_one_message(asgipipe: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    """Each mistake of the command line is told in one message, without a traceback."""
    done = asgipipe("kubernetes", "render", *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
