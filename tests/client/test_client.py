"""Deploying from Python."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from asgipipe import Client, DeploymentSettings, Pipeline
from asgipipe.client import InvocationError, KeyRefusedError
from asgipipe.client.settings import texts_of
from asgipipe.deployers.records import Status
from asgipipe.errors import DefinitionError, DeploymentError, SettingsError
from tests.conftest import PATIENCE, free_port

FLOW = '''
from asgipipe import pipeline

@pipeline
def {name}(value: int, fail: bool = False) -> tuple[int, str]:
    """Double a value."""
    if fail:
        raise ValueError("as told")
    return 2 * value, str(value)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module that no other test has imported; the user's keys are kept below it."""
    monkeypatch.setenv("ASGIPIPE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubling.py").write_text(FLOW.format(name="double"))
    yield tmp_path
    sys.modules.pop("doubling", None)


@pytest.fixture
def double(project: Path) -> "Pipeline[..., object]":
    found = import_module("doubling").double
    assert isinstance(found, Pipeline)
    return found


def test_the_life_of_a_deployment(project: Path, double: "Pipeline[..., object]") -> None:
    """A pipeline is deployed, called, started anew, ended and deleted, with the key that is kept for this user."""
    settings = {"uvicorn_port": free_port(), "root_url_path": "/root", "drain_timeout": 1}
    with Client(project=project) as client:
        try:
            handle = client.deploy(double, deployment_name="mine", settings=settings, tags=["first"])
            assert handle.auth_key is not None
            assert handle.auth_key not in repr(handle)
            with handle.connect() as service:
                assert service.invoke(value=2).value == (4, "2")
                with pytest.raises(InvocationError, match="as told"):
                    service.invoke(value=2, fail=True)
            with pytest.raises(DeploymentError, match="update"):
                client.deploy(double, deployment_name="mine", settings=settings)
            assert client.deployments.state("mine").status is Status.RUNNING
            assert [one.name for one in client.deployments.list()] == ["mine"]
            assert client.deployments.update("mine").revision > handle.record.revision
            assert any("started" in line for line in client.deployments.logs("mine"))
            with client.deployments.connect("mine", pipeline=double) as service:
                assert service.invoke(value=3).value == (6, "3")
                assert service.info().deployment.name == "mine"
            with client.deployments.connect("mine", auth_key="wrong") as service, pytest.raises(KeyRefusedError):
                service.invoke(value=3)
            client.deployments.deprovision("mine")
            assert client.deployments.state("mine").status is Status.ABSENT
            assert "deployed" in [entry.action for entry in client.deployments.history("mine")]
        finally:
            client.deployments.delete("mine", force=True)
        with pytest.raises(DeploymentError):
            client.deployments.get("mine")


def test_snapshots(project: Path, double: "Pipeline[..., object]") -> None:
    """Snapshots are made of objects and of targets, with settings of Python's and of a file, listed and deleted."""
    (project / "settings.yaml").write_text("settings: {deployment: {uvicorn_port: 7001, app_title: From a file}}")
    with Client(project=project) as client:
        made = client.snapshots.create(
            double,
            name="mine",
            settings=DeploymentSettings(uvicorn_port=7002, auth_key="correct-horse"),
            config_file=project / "settings.yaml",
            tags=["a"],
            description="Mine.",
        )
        assert made.target == "doubling:double"
        assert made.settings == {"settings": {"deployment": {"uvicorn_port": "7002", "app_title": "From a file"}}}
        assert "correct-horse" not in repr(made)
        assert client.snapshots.create("doubling.py:double", tags=["b"]).name == "double-1"
        assert [one.name for one in client.snapshots.list()] == ["double-1", "mine"]
        assert [one.name for one in client.snapshots.list(tag="a")] == ["mine"]
        assert client.snapshots.get("mine") == made
        client.snapshots.delete("mine")
        assert [one.name for one in client.snapshots.list(pipeline="double")] == ["double-1"]
    assert double.create_snapshot("other", store_url=str(project / "other.db")).name == "other"


def test_deployers(project: Path) -> None:
    """Deployers are registered with their settings, changed, listed and deleted; `local` is always there."""
    with Client(project=project) as client:
        assert "local" in client.deployers.flavors()
        client.deployers.check("local")
        client.deployers.register("mine", "local", {})
        assert [one.name for one in client.deployers.list()] == ["local", "mine"]
        assert client.deployers.update("mine", {}).flavor == "local"
        assert client.deployers.get("mine").name == "mine"
        assert list(client.deployers.delete("mine")) == []
        with pytest.raises(SettingsError):
            client.deployers.register("other", "local", {"no_such": 1})


def test_wrong_settings(project: Path, double: "Pipeline[..., object]") -> None:
    """A wrong setting is refused with its name before anything is kept, as is an object that cannot be passed on."""
    with Client(project=project) as client:
        with pytest.raises(SettingsError, match="uvicorn_prt: unknown field; did you mean uvicorn_port"):
            client.deploy(double, settings={"uvicorn_prt": 1})
        with pytest.raises(DefinitionError, match="it is to be open, and the settings give a key"):
            client.deploy(double, settings={"auth_key": "correct-horse"}, open=True)
        assert list(client.snapshots.list()) == []
    with pytest.raises(SettingsError, match="uvicorn_prt"):
        double.deploy("mine", settings={"uvicorn_prt": 1}, store_url=str(project / "other.db"))
    with pytest.raises(DefinitionError, match="name it by an import string"):
        texts_of(DeploymentSettings(app_kwargs={"lock": object()}))


def test_keys_that_are_not_here(project: Path) -> None:
    """Whoever has no key of a deployment is told so before it is called; an unknown name is one error, too."""
    with Client(project=project) as client, pytest.raises(DeploymentError, match="mine"):
        client.deployments.connect("mine")


def run(project: Path, program: str) -> "subprocess.CompletedProcess[str]":
    (project / "script.py").write_text(program)
    return subprocess.run([sys.executable, "script.py"], cwd=project, capture_output=True, text=True, timeout=PATIENCE)


def test_scripts(project: Path) -> None:
    """A script makes a snapshot of its own pipeline, found by its file; without the guard, which would do it again
    whenever the script is imported, it is told about it.
    """
    call = 'print(flow.create_snapshot("mine").target)'
    program = FLOW.format(name="flow")
    done = run(project, f'{program}\nif __name__ == "__main__":\n    {call}\n')
    assert (done.stdout, done.stderr) == ("script.py:flow\n", "")
    again = run(project, f"{program}\n{call}\n")
    assert "put the call below 'if __name__ == " in again.stderr
