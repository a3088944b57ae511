from pathlib import Path

import pytest

pytest.importorskip("docker")

from asgipipe.deployers.flavors import settings_of
from asgipipe.deployers.records import Instance, Status
from asgipipe.errors import DeploymentError, SettingsError
from asgipipe_docker import DockerDeployer, DockerDeployerSettings
from asgipipe_docker.address import Address, is_reachable, ports, public_host, wanted_port
from asgipipe_docker.engine import host_of
from tests.deployers.docker.workshop import workload

NOWHERE = "unix:///nowhere/docker.sock"
HANDLE = {
    "container": "asgipipe-x",
    "deployment": "x",
    "image": "x",
    "network": "bridge",
    "host": "127.0.0.1",
    "port": 8001,
    "wanted": 8000,
    "listener": "asgipipe-x-port-8001",
}


def deployer(**values: object) -> DockerDeployer:
    return DockerDeployer("docker", DockerDeployerSettings.model_validate(values))


@pytest.mark.parametrize("base_url", [NOWHERE, "tcp://127.0.0.1:1"])
def test_an_engine_that_is_not_there_is_said(base_url: str, tmp_path: Path) -> None:
    """Every operation says where nobody answers and what to do; how an instance is, is UNKNOWN."""
    absent = deployer(base_url=base_url)
    with pytest.raises(DeploymentError, match=f"no container engine answers at {base_url}.*DOCKER_HOST"):
        absent.check()
    with pytest.raises(DeploymentError, match="no container engine"):
        absent.start(workload(tmp_path / "project"), replaces=None, report=lambda _: None)
    condition = absent.inspect(Instance(1, "http://127.0.0.1:8001", HANDLE))
    assert condition.status is Status.UNKNOWN
    assert base_url in (condition.reason or "")


def test_the_environment_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST counts where the settings say nothing."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    with pytest.raises(DeploymentError, match=r"/nowhere/docker\.sock"):
        deployer().check()


def test_an_engine_elsewhere_is_reached_there() -> None:
    """What another machine publishes is at that machine's name, and out of reach at its loopback address."""
    there = DockerDeployerSettings(base_url="ssh://me@engine.example", address="0.0.0.0")
    assert host_of(there.base_url) == "engine.example"
    assert public_host(there) == "engine.example"
    address = Address("bridge", "0.0.0.0", 8000, 8000, None)
    assert is_reachable(address, there)
    loopback = DockerDeployerSettings(base_url="tcp://engine.example:2376")
    assert not is_reachable(Address("bridge", "127.0.0.1", 8000, 8000, None), loopback)
    assert deployer(base_url=loopback.base_url).reachable(Instance(1, "http://127.0.0.1:8001", HANDLE)) is None


@pytest.mark.parametrize(
    ("values", "url"), [({}, "127.0.0.1"), ({"address": "0.0.0.0"}, "127.0.0.1"), ({"address": "::1"}, "[::1]")]
)
def test_an_engine_here_is_reached_here(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], url: str) -> None:
    """What this machine publishes everywhere is reached at its loopback address."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert public_host(DockerDeployerSettings.model_validate(values)) == url


def test_an_address_is_kept_while_the_same_is_asked_for() -> None:
    """A revision that asks for what the one before asked for, or got, has its address; any other has not."""
    before = Address.of(Instance(1, "http://127.0.0.1:8001", HANDLE))
    settings = DockerDeployerSettings()
    assert before.serves(settings, 8000)
    assert before.serves(settings, 8001)
    assert not before.serves(settings, 8002)
    assert not before.serves(DockerDeployerSettings(network="host"), 8000)
    assert not before.serves(DockerDeployerSettings(address="0.0.0.0"), 8000)


def test_ports_are_tried_in_turn() -> None:
    """The port that is wanted, then the range, as far as that is allowed; for any port, some of the range."""
    remote = {"base_url": "tcp://engine.example:2376", "port_range": (9000, 9002)}
    settings = DockerDeployerSettings.model_validate(remote)
    assert list(ports(settings, 8000)) == [8000, 9000, 9001, 9002]
    fixed = DockerDeployerSettings.model_validate({**remote, "allocate_port_if_busy": False})
    assert list(ports(fixed, 8000)) == [8000]
    assert set(ports(fixed, 0)) <= {9000, 9001, 9002}
    assert wanted_port(DockerDeployerSettings(port=0), 8000) == 0
    assert wanted_port(DockerDeployerSettings(), 8000) == 8000


@pytest.mark.parametrize(
    "values",
    [
        {"memory": "lots"},
        {"labels": {"asgipipe.role": "mine"}},
        {"port_range": [9000, 8000]},
        {"restart": "always"},
        {"cpus": 0},
        {"colour": "blue"},
    ],
)
def test_wrong_settings_are_refused_by_name(values: dict[str, object]) -> None:
    """A registration with a setting that is not one names it."""
    with pytest.raises(SettingsError, match=next(iter(values))):
        settings_of("docker", values)
