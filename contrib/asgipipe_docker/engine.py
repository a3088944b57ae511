"""Talking to a container engine, with its errors as ours."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import requests
from docker import DockerClient
from docker.errors import APIError, DockerException

from asgipipe.errors import DeploymentError

_PATIENCE = 60
"""Seconds that an engine may take to answer one request."""
_LOCAL = "unix:///var/run/docker.sock"


class UnreachableError(DeploymentError):
    """No engine answers, or it does not let this user in."""

    def __init__(self, place: str, cause: Exception) -> None:
        self.reason = f"no container engine answers at {place}: {_innermost(cause)}"
        super().__init__(
            f"{self.reason}. Start it, or say where it is with DOCKER_HOST or base_url; the socket of Docker is for "
            "its group 'docker', that of Podman is $XDG_RUNTIME_DIR/podman/podman.sock"
        )


@contextmanager
def connected(base_url: str | None) -> Iterator[DockerClient]:
    """A connection to the engine that `base_url`, or else DOCKER_HOST, names.

    Raises UnreachableError, and DeploymentError for what the engine refuses.
    """
    place = place_of(base_url)
    environment = {**os.environ, "DOCKER_HOST": place}
    try:
        _knock(place)
        client = DockerClient.from_env(timeout=_PATIENCE, environment=environment, use_ssh_client=True)
    except (DockerException, requests.RequestException, OSError) as error:
        raise UnreachableError(place, error) from error
    with closing(client):
        try:
            yield client
        except (requests.ConnectionError, requests.Timeout) as error:
            raise UnreachableError(place, error) from error
        except APIError as error:
            raise DeploymentError(f"the container engine refused: {explanation(error)}") from error
        except DockerException as error:
            raise DeploymentError(f"the container engine: {error}") from error


def place_of(base_url: str | None) -> str:
    """Return where the engine is, as a URL."""
    return base_url or os.environ.get("DOCKER_HOST") or _LOCAL


def host_of(base_url: str | None) -> str | None:
    """Return the machine that the engine runs on; None is this one."""
    place = urlsplit(place_of(base_url))
    return None if place.scheme in {"unix", "npipe", "http+unix"} else place.hostname


def explanation(error: APIError) -> str:
    """Return what the engine said, on one line."""
    return " ".join(str(error.explanation or error).split())


def _knock(place: str) -> None:
    """Raise OSError when nobody listens at a Unix socket; the SDK would leave one of its own open."""
    kind, _, path = place.partition("://")
    if kind == "unix":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(path)


def _innermost(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    reason = getattr(error, "strerror", None)
    return reason if isinstance(reason, str) else " ".join(str(error).split())[:300]
