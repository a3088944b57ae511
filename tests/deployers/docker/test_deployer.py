"""What a real engine is told, and what is made of its answers."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

pytest.importorskip("docker")

from asgipipe.deployers.records import Condition, Instance, Status, Workload
from asgipipe.errors import DeploymentError
from asgipipe.testing.deployers import next_revision, until
from asgipipe_docker import DockerDeployer
from tests.deployers.docker.workshop import Workshop, workload

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.timeout(600)  # the first test of a run builds an image


@pytest.fixture
def client(workshop: Workshop) -> "Iterator[DockerClient]":
    with closing(workshop.client()) as client:
        yield client


@pytest.fixture
def made(workshop: Workshop, tmp_path: Path) -> Iterator[Workload]:
    """A workload; what was made of it is removed."""
    made = workload(tmp_path / "project")
    yield made
    deployer = workshop.deployer()
    for instance in deployer.instances(made.deployment_id):
        deployer.stop(instance, grace=0.0)
    deployer.remove(made.deployment_id)


def start(deployer: DockerDeployer, made: Workload, replaces: Instance | None = None) -> Instance:
    return deployer.start(made, replaces=replaces, report=lambda _: None)


def settled(deployer: DockerDeployer, instance: Instance) -> Condition:
    until(lambda: deployer.inspect(instance).status is not Status.PENDING, "an end of PENDING")
    return deployer.inspect(instance)


def test_a_container_may_do_no_more_than_it_must(workshop: Workshop, made: Workload, client: "DockerClient") -> None:
    """It has the limits, labels and variables it was given, no capabilities, and a root it cannot write."""
    deployer = workshop.deployer(
        cpus=0.5, memory="256m", pids=100, labels={"team": "weather"}, environment={"COLOUR": "blue"}
    )
    instance = start(deployer, replace(made, environment={"LABEL": "one", "SECRET": "canary"}))
    assert settled(deployer, instance).status is Status.RUNNING
    container = client.containers.get(str(instance.handle["container"]))
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 256 * 1024**2, 100)
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert config["User"] == "10001:10001"
    assert {"COLOUR=blue", "SECRET=canary", "LABEL=one"} <= set(config["Env"])
    assert (
        config["Labels"].items()
        >= {
            "team": "weather",
            "asgipipe.deployment": made.deployment_id,
            "asgipipe.revision": "1",
            "asgipipe.role": "server",
            "org.opencontainers.image.title": "deployed",
        }.items()
    )
    writable = {"/app": False, "/etc": False, "/tmp": True, "/app/.asgipipe": True}  # noqa: S108  # inside
    for path, may_write in writable.items():
        assert (container.exec_run(["touch", f"{path}/x"]).exit_code == 0) is may_write, path
    assert container.exec_run(["sh", "-c", "ls /build || cat /build/ca.crt"]).exit_code != 0
    history = str(client.images.get(str(instance.handle["image"])).history())
    assert "canary" not in history
    assert "ca.crt" not in history


def test_a_port_is_published_where_it_was_asked_for(workshop: Workshop, made: Workload) -> None:
    """The port of the settings is taken; when it is busy, the next free one, or that is an error that says so."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        busy = other.getsockname()[1]
        strict = workshop.deployer(port=busy, allocate_port_if_busy=False)
        with pytest.raises(DeploymentError, match=f"port {busy} of 127.0.0.1 is taken.*allocate_port_if_busy"):
            start(strict, made)
        assert strict.instances(made.deployment_id) == []
        deployer = workshop.deployer(port=busy, port_range=(20_000, 30_000))
        instance = start(deployer, made)
        assert settled(deployer, instance).status is Status.RUNNING
        assert 20_000 <= int(str(instance.handle["port"])) <= 30_000
    assert httpx.get(f"{instance.url}/ready").status_code == 200


def test_another_port_is_another_address(workshop: Workshop, made: Workload) -> None:
    """A revision that asks for another port serves there, beside the one before, whose port is free at its end."""
    deployer = workshop.deployer()
    first = start(deployer, made)
    assert settled(deployer, first).status is Status.RUNNING
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        free = probe.getsockname()[1]
    second = start(workshop.deployer(port=free), next_revision(made, "two"), first)
    assert settled(deployer, second).status is Status.RUNNING
    assert second.url.endswith(f":{free}")
    assert httpx.get(f"{first.url}/ready").status_code == 200
    deployer.retire(first, by=second, grace=5.0)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{first.url}/ready")
    assert httpx.get(f"{second.url}/ready").status_code == 200


def test_a_name_that_is_taken_is_said(workshop: Workshop, made: Workload, client: "DockerClient") -> None:
    """A container of somebody else's under the name is an error, and is left alone."""
    name = f"asgipipe-deployed-{made.deployment_id[:8]}-r1"
    stranger = client.containers.create(workshop.engine.base, ["true"], name=name)
    try:
        with pytest.raises(DeploymentError, match=f"a container called {name} is there already"):
            start(workshop.deployer(network="host"), made)
        stranger.reload()
    finally:
        stranger.remove()


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"requirements": ("there-is-no-such-package-at-all==1",)}, ["uv pip install", "there-is-no-such-package"]),
        ({"base_image": "registry.invalid/nothing:1"}, ["FROM registry.invalid/nothing:1", "base_image"]),
    ],
)
def test_a_build_that_fails_is_shown(
    workshop: Workshop, made: Workload, settings: dict[str, object], messages: list[str]
) -> None:
    """The step that failed and its last lines are in the error, and nothing is left of the deployment."""
    steps: list[str] = []
    deployer = workshop.deployer(**settings)
    with pytest.raises(DeploymentError) as raised:
        deployer.start(made, replaces=None, report=steps.append)
    for message in messages:
        assert message in str(raised.value)
    assert any("step 1 of" in step for step in steps)
    assert deployer.instances(made.deployment_id) == []


def test_a_network_that_is_not_there_is_said(workshop: Workshop) -> None:
    """The check names the network, and the command that makes it."""
    with pytest.raises(DeploymentError, match="docker network create nowhere"):
        workshop.deployer(network="nowhere").check()


def test_a_start_that_was_cut_is_finished(
    workshop: Workshop, made: Workload, client: "DockerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was killed between any two of its steps is repaired by running it again."""
    from asgipipe_docker import deployer as module

    deployer = workshop.deployer()
    with monkeypatch.context() as patch:
        patch.setattr(module.containers, "make_server", killed)
        with pytest.raises(KeyboardInterrupt):
            start(deployer, made)  # what holds the address is there
    with monkeypatch.context() as patch:
        patch.setattr(module, "_start", killed)
        with pytest.raises(KeyboardInterrupt):
            start(deployer, made)  # the container is there, too
    (created,) = deployer.instances(made.deployment_id)
    assert deployer.inspect(created).status is Status.PENDING
    instance = start(deployer, made)
    assert instance == created
    assert settled(deployer, instance).status is Status.RUNNING
    deployer.stop(instance, grace=0.0)
    left = client.containers.list(all=True, filters={"label": f"asgipipe.deployment={made.deployment_id}"})
    assert [container.name for container in left] == [instance.handle["container"]]


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_one_that_keeps_failing_is_an_error_at_once(workshop: Workshop, made: Workload) -> None:
    """A container that the engine starts again and again is not taken for one that starts."""
    deployer = workshop.deployer(network="host")
    instance = start(deployer, replace(made, environment={"LABEL": "one", "START": "fails"}))
    until(lambda: "started again" in str(deployer.inspect(instance).reason), "a second start")
    condition = deployer.inspect(instance)
    assert condition.status is Status.ERROR
    assert any("the model is missing" in line for line in condition.log)


def test_what_takes_too_much_memory_is_told(workshop: Workshop, made: Workload) -> None:
    """A container that the kernel ended for its memory says so."""
    deployer = workshop.deployer(network="host", memory="16m", restart="no")
    instance = start(deployer, made)
    condition = settled(deployer, instance)
    assert condition.status is Status.ERROR
    assert "memory" in str(condition.reason)


def test_one_that_died_comes_back_by_itself(workshop: Workshop, made: Workload) -> None:
    """After a crash the engine starts it again, and it gets its address again."""
    deployer = workshop.deployer()
    instance = start(deployer, made)
    assert settled(deployer, instance).status is Status.RUNNING
    with suppress(httpx.HTTPError):
        httpx.post(f"{instance.url}/invoke", json={"parameters": {"last_words": "oh"}}, timeout=10)
    until(lambda: answers(instance), "an answer")
    assert deployer.inspect(instance).status is Status.RUNNING


def answers(instance: Instance) -> bool:
    try:
        return httpx.get(f"{instance.url}/ready", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_lost_address_is_an_error(workshop: Workshop, made: Workload, client: "DockerClient") -> None:
    """When what holds the address ended or was started anew, the deployment is not RUNNING, and it is said why."""
    deployer = workshop.deployer()
    instance = start(deployer, made)
    assert settled(deployer, instance).status is Status.RUNNING
    holder = client.containers.get(str(instance.handle["listener"]))
    holder.stop(timeout=0)
    assert "does not run" in str(deployer.inspect(instance).reason)
    holder.start()
    until(lambda: "docker restart" in str(deployer.inspect(instance).reason), "the loss to be seen")
    assert deployer.inspect(instance).status is Status.ERROR
    client.containers.get(str(instance.handle["container"])).restart(timeout=10)
    until(lambda: deployer.inspect(instance).status is Status.RUNNING, "the address again")
    assert httpx.get(f"{instance.url}/ready").status_code == 200


def test_what_was_kept_outlives_the_containers(workshop: Workshop, made: Workload, client: "DockerClient") -> None:
    """Revisions share the folder of the state."""
    deployer = workshop.deployer()
    first = start(deployer, made)
    assert settled(deployer, first).status is Status.RUNNING
    client.containers.get(str(first.handle["container"])).exec_run(["touch", "/app/.asgipipe/kept"])
    deployer.stop(first, grace=1.0)
    deployer.discard(first)
    second = start(deployer, next_revision(made, "two"))
    container = client.containers.get(str(second.handle["container"]))
    assert container.exec_run(["test", "-e", "/app/.asgipipe/kept"]).exit_code == 0


def test_the_commands_of_the_platform_are_named(workshop: Workshop, made: Workload) -> None:
    """Who knows Docker is told how to go on with it."""
    deployer = workshop.deployer(network="host")
    instance = start(deployer, made)
    commands = deployer.commands(instance)
    assert commands["log"] == f"docker logs --tail 100 --follow {instance.handle['container']}"
