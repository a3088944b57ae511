"""What a deployer of flavor `local` is registered with."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from asgipipe.deployers.deployer import DeployerSettings

Port = Annotated[int, Field(ge=1, le=65535)]


def _ascending(ports: tuple[int, int]) -> tuple[int, int]:
    if ports[0] > ports[1]:
        raise ValueError("the first port of a range is not above its last")
    return ports


class LocalDeployerSettings(DeployerSettings):
    """Every field may be left out."""

    address: str | None = Field(
        default=None, description="The address to listen on; by default uvicorn_host of the deployment."
    )
    port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port to listen on, 0 for any that is free; by default uvicorn_port of the deployment.",
    )
    allocate_port_if_busy: bool = Field(
        default=True, description="Take the first free port of port_range when another program listens on the port."
    )
    port_range: Annotated[tuple[Port, Port], AfterValidator(_ascending)] = Field(
        default=(8000, 65535), description="The first and the last port that may be taken when the port is busy."
    )
    start_timeout: float = Field(
        default=300.0,
        gt=0,
        description="Seconds in which a deployment must have started up, imports and hooks included.",
    )
    log_max_bytes: int = Field(
        default=10_000_000, ge=65536, description="Bytes of a log file before the next one begins."
    )
    log_files: int = Field(default=3, ge=1, le=100, description="Log files that are kept for each revision.")
    folder: Path | None = Field(
        default=None,
        description="The folder of all that is kept: logs, settings, states. By default .asgipipe/deployments below the"
        " working directory, beside the store.",
    )
