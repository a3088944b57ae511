"""Which port of the engine's machine a deployment gets, and who holds it."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from asgipipe.deployers.records import Instance
from asgipipe.errors import DeploymentError, ServerError
from asgipipe.servers.sockets import bind_address
from asgipipe_docker.engine import host_of
from asgipipe_docker.settings import DockerDeployerSettings

HOST_NETWORK = "host"
_MOST_TRIES = 64
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Address:
    """What is published: `wanted` is the port that was asked for, `port` the one there is.

    `listener` is the container that holds it; with the network of the host, there is none.
    """

    network: str
    host: str
    port: int
    wanted: int
    listener: str | None

    @classmethod
    def of(cls, instance: Instance) -> "Address":
        handle = instance.handle
        listener = handle.get("listener")
        return cls(
            network=str(handle["network"]),
            host=str(handle["host"]),
            port=int(str(handle["port"])),
            wanted=int(str(handle["wanted"])),
            listener=None if listener is None else str(listener),
        )

    def serves(self, settings: DockerDeployerSettings, wanted: int) -> bool:
        """Whether who asks for `wanted` now gets this address."""
        return (self.network, self.host) == (settings.network, settings.address) and wanted in {self.wanted, self.port}


def wanted_port(settings: DockerDeployerSettings, port: int) -> int:
    return port if settings.port is None else settings.port


def ports(settings: DockerDeployerSettings, wanted: int) -> Iterator[int]:
    """Yield the ports to try in turn; those that are seen to be taken are left out where they can be seen."""
    first, last = settings.port_range
    candidates: Iterator[int] = iter(range(first, last + 1))
    if wanted == 0:
        candidates = (random.randint(first, last) for _ in range(_MOST_TRIES))  # noqa: S311  # any will do
    elif not settings.allocate_port_if_busy:
        candidates = iter(())
    tried = 0
    for port in [wanted] if wanted else []:
        if _may_be_free(settings, port):
            yield port
    for port in candidates:
        if tried == _MOST_TRIES:
            return
        if _may_be_free(settings, port):
            tried += 1
            yield port


def none_free(settings: DockerDeployerSettings, wanted: int) -> DeploymentError:
    if wanted and not settings.allocate_port_if_busy:
        return DeploymentError(
            f"port {wanted} of {settings.address} is taken: give another port, or allocate_port_if_busy"
        )
    first, last = settings.port_range
    return DeploymentError(f"no port of {settings.address} from {first} to {last} was found free (port_range)")


def public_host(settings: DockerDeployerSettings) -> str:
    """Return the host of a URL that leads to a published port."""
    host = settings.address
    if host in _ANYWHERE:
        host = host_of(settings.base_url) or _ANYWHERE[host]
    return f"[{host}]" if ":" in host else host


def is_reachable(address: Address, settings: DockerDeployerSettings) -> bool:
    """Whether this machine can ask what listens there: not at the loopback address of another one."""
    return host_of(settings.base_url) is None or not address.host.startswith(("127.", "::1", "localhost"))


def _may_be_free(settings: DockerDeployerSettings, port: int) -> bool:
    if host_of(settings.base_url) is not None:
        return True
    try:
        with closing(bind_address(settings.address, port)) as probe:
            probe.listen(1)  # several sockets may be bound to one port while none listens
    except (ServerError, OSError) as error:
        cause = error.__cause__ if isinstance(error, ServerError) else error
        # An address that this machine has not is one of the engine's, as with a virtual machine.
        return not isinstance(cause, OSError) or cause.errno not in _TAKEN
    return True


_TAKEN = {getattr(socket, "EADDRINUSE", 98), 98, 48, 13}
