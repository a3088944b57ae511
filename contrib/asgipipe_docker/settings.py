"""What a deployer of flavor `docker` is registered with."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from asgipipe.deployers.image import ImageSettings

Port = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[kmg]$")]


def _ascending(ports: tuple[int, int]) -> tuple[int, int]:
    if ports[0] > ports[1]:
        raise PydanticCustomError("ports", "the first port of a range is not above its last")
    return ports


def _foreign(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if name.startswith("asgipipe."):
            raise PydanticCustomError("label", "labels that begin with 'asgipipe.' are the deployer's own")
    return labels


class DockerDeployerSettings(ImageSettings):
    """Every field may be left out."""

    base_url: str | None = Field(
        default=None,
        description="Where the engine is: unix:///run/podman/podman.sock, ssh://host, tcp://host:2376. "
        "By default what DOCKER_HOST says, or the socket of Docker.",
    )
    network: str = Field(
        default="bridge",
        min_length=1,
        description="The network of the containers: bridge, host, or the name of one that exists.",
    )
    address: str = Field(
        default="127.0.0.1", description="The address of the engine's machine to publish the port on; 0.0.0.0 is every."
    )
    port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port to publish, 0 for any that is free; by default uvicorn_port of the deployment.",
    )
    allocate_port_if_busy: bool = Field(
        default=True, description="Take the first free port of port_range when the port is busy."
    )
    port_range: Annotated[tuple[Port, Port], AfterValidator(_ascending)] = Field(
        default=(8000, 65535), description="The first and the last port that may be taken when the port is busy."
    )
    cpus: float | None = Field(default=None, gt=0, description="CPUs that a container may use. Null is all.")
    memory: Size | None = Field(default=None, description="Memory that a container may use, such as 512m or 2g.")
    pids: int = Field(default=512, ge=16, description="Processes and threads that a container may have.")
    environment: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of the containers, besides those of the deployment. No secrets."
    )
    labels: Annotated[Mapping[str, str], AfterValidator(_foreign)] = Field(
        default_factory=dict, description="Labels of the containers, besides the deployer's own."
    )
    volumes: tuple[str, ...] = Field(
        default=(), description="What else is mounted, as docker run --volume has it: /srv/models:/models:ro."
    )
    restart: Literal["no", "on-failure", "unless-stopped"] = Field(
        default="unless-stopped", description="When the engine starts a container that has ended again."
    )
    read_only: bool = Field(
        default=True, description="Mount all but /tmp, .asgipipe and the volumes without the right to write."
    )
    tmp_size: Size = Field(default="256m", description="The size of /tmp, which is in memory.")
    log_max_size: Size = Field(default="10m", description="The size of a log file before the next one begins.")
    log_files: int = Field(default=3, ge=1, le=100, description="Log files that are kept for each container.")
    pull: Literal["missing", "always"] = Field(
        default="missing", description="When the engine asks for a newer base image."
    )
    build_network: str | None = Field(
        default=None, description="The network during the build, such as host. Null is the engine's default."
    )
    build_timeout: float = Field(default=1800.0, gt=0, description="Seconds that an image may take to build.")
    start_timeout: float = Field(
        default=300.0,
        gt=0,
        description="Seconds in which a deployment must have started up, imports and hooks included.",
    )
