"""The containers of a deployment: its servers, one for each revision, and what holds its address."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import LogConfig

from asgipipe.deployers.image import Recipe
from asgipipe.deployers.image.dockerfile import PYTHON, RUN_FOLDER, STATE_FOLDER, USER, health_command, serve_command
from asgipipe.deployers.records import Instance, Workload
from asgipipe.errors import DeploymentError
from asgipipe_docker.address import HOST_NETWORK, Address, none_free, ports
from asgipipe_docker.engine import explanation
from asgipipe_docker.names import (
    DEPLOYMENT,
    LISTENER,
    ROLE,
    SERVER,
    container_name,
    filters,
    instance_labels,
    labelled_instance,
    listener_name,
    own_labels,
    prefix,
)
from asgipipe_docker.settings import DockerDeployerSettings

KEEPER_FOLDER = "/run/keeper"
READY, KEEPER = f"{KEEPER_FOLDER}/ready", f"{KEEPER_FOLDER}/pid"
"""Files of the keeper: one while its server serves, and one since it was started."""
ALIVE = frozenset({"created", "running", "restarting", "paused"})

_SECOND = 1_000_000_000
_PORT_TAKEN = ("port is already allocated", "address already in use", "ports are not available")


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What is particular about one container; `command` are a Python module and its arguments."""

    name: str
    image: str
    command: Sequence[str]
    labels: Mapping[str, str]
    volumes: Sequence[str]
    healthcheck: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    nano_cpus: int | None = None
    memory: str | None = None


def find(client: DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def servers(client: DockerClient, deployment_id: str) -> Iterator[tuple[Instance, Container]]:
    for container in client.containers.list(all=True, filters=filters(deployment_id, SERVER), ignore_removed=True):
        instance = labelled_instance(container.labels)
        if instance is not None:
            yield instance, container


def offer_of(revision: int) -> str:
    """Return where the keeper of a revision offers its listener, with the network of the host."""
    return f"{RUN_FOLDER}/r{revision}.sock"


def make_volumes(client: DockerClient, workload: Workload) -> dict[str, str]:
    """Return the folders that outlive the containers, by the name of their volumes."""
    folders = {f"{prefix(workload)}-state": STATE_FOLDER, f"{prefix(workload)}-run": RUN_FOLDER}
    for name in folders:
        client.volumes.create(name, labels=own_labels(workload))
    return folders


def make_server(
    client: DockerClient,
    workload: Workload,
    settings: DockerDeployerSettings,
    instance: Instance,
    *,
    image: str,
    take_over: str | None,
) -> Container:
    """Create the container of an instance; it is not started."""
    address, recipe = Address.of(instance), Recipe.of(workload)
    where = {"ASGIPIPE_UVICORN_HOST": address.host, "ASGIPIPE_UVICORN_PORT": str(address.port)}
    volumes = make_volumes(client, workload)
    blueprint = Blueprint(
        name=container_name(workload),
        image=image,
        command=[*_keeper(address, instance.revision, take_over), "--", *serve_command(recipe)],
        labels={**own_labels(workload), **instance_labels(instance)},
        environment={**settings.environment, **workload.environment, **where},
        volumes=[*(f"{name}:{folder}" for name, folder in volumes.items()), *settings.volumes],
        healthcheck=["test", "-e", READY],
        nano_cpus=None if settings.cpus is None else int(settings.cpus * _SECOND),
        memory=settings.memory,
    )
    return _create(client, settings, blueprint)


def hold_address(
    client: DockerClient, workload: Workload, settings: DockerDeployerSettings, *, image: str, wanted: int
) -> tuple[str, int]:
    """Start a container that holds a free port of the engine's machine; return its name and the port.

    Raises DeploymentError when none is free.
    """
    for port in ports(settings, wanted):
        name = listener_name(workload, port)
        before = find(client, name)
        if before is not None and before.labels.get(DEPLOYMENT) == workload.deployment_id:
            before.remove(force=True)  # of a command that was killed: nobody serves there
        container = _make_listener(client, workload, settings, name, image=image, port=port)
        try:
            container.start()
        except APIError as error:
            container.remove(force=True)
            if not any(reason in explanation(error).lower() for reason in _PORT_TAKEN):
                raise
        else:
            return name, port
    raise none_free(settings, wanted)


def drop_listeners(client: DockerClient, deployment_id: str) -> None:
    """Remove what holds addresses at which no server is left."""
    used = {
        instance.handle.get("listener")
        for instance, container in servers(client, deployment_id)
        if container.status in ALIVE
    }
    for container in client.containers.list(all=True, filters=filters(deployment_id, LISTENER), ignore_removed=True):
        if container.name not in used:
            container.remove(force=True)


def _make_listener(
    client: DockerClient, workload: Workload, settings: DockerDeployerSettings, name: str, *, image: str, port: int
) -> Container:
    recipe = Recipe.of(workload)
    make_volumes(client, workload)
    blueprint = Blueprint(
        name=name,
        image=image,
        command=["asgipipe.deployers.container.hold", "0.0.0.0", str(recipe.port), listener_socket(name)],
        labels={**own_labels(workload), ROLE: LISTENER},
        volumes=[f"{prefix(workload)}-run:{RUN_FOLDER}"],
        ports={f"{recipe.port}/tcp": (settings.address, port)},
        healthcheck=health_command(recipe),
    )
    return _create(client, settings, blueprint)


def listener_socket(name: str) -> str:
    return f"{RUN_FOLDER}/{name}.sock"


def _keeper(address: Address, revision: int, take_over: str | None) -> list[str]:
    options = ["--state", KEEPER_FOLDER, f"--host={address.host}", f"--port={address.port}"]
    if address.network != HOST_NETWORK:
        assert take_over is not None
        return ["asgipipe.deployers.container.join", take_over, *options]
    before = [] if take_over is None else ["--take-over", take_over]
    return ["asgipipe.deployers.keeper", *options, *before, "--offer", offer_of(revision)]


def _create(client: DockerClient, settings: DockerDeployerSettings, blueprint: Blueprint) -> Container:
    """Create a container that may do no more than it must. Raises DeploymentError when the name is taken."""
    memory_folders = {
        "/tmp": f"rw,nosuid,nodev,mode=1777,size={settings.tmp_size}",  # noqa: S108  # inside of the container
        KEEPER_FOLDER: f"rw,nosuid,nodev,noexec,mode=0700,uid={USER},gid={USER},size=1m",
    }
    log = {"max-size": settings.log_max_size, "max-file": str(settings.log_files)}
    try:
        return client.containers.create(
            blueprint.image,
            [*blueprint.command],
            entrypoint=[PYTHON, "-m"],
            name=blueprint.name,
            labels={**settings.labels, **blueprint.labels},
            environment=dict(blueprint.environment),
            volumes=[*blueprint.volumes],
            ports=blueprint.ports,
            healthcheck=_healthcheck(blueprint.healthcheck),
            nano_cpus=blueprint.nano_cpus,
            mem_limit=blueprint.memory,
            network_mode=settings.network,
            restart_policy={"Name": settings.restart},  # type: ignore[arg-type]  # the stubs know two of the four
            read_only=settings.read_only,
            tmpfs=memory_folders,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=settings.pids,
            log_config=LogConfig(type=LogConfig.types.JSON, config=log),
        )
    except APIError as error:
        if error.status_code != 409:
            raise
        raise DeploymentError(
            f"a container called {blueprint.name} is there already, and not of this deployment: rename or remove it "
            f"({explanation(error)})"
        ) from error


def _healthcheck(command: Sequence[str]) -> dict[str, object]:
    return {
        "test": ["CMD", *command],
        "interval": 15 * _SECOND,
        "timeout": 5 * _SECOND,
        "start_period": 60 * _SECOND,
        "retries": 3,
    }
