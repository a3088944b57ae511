"""Choosing the port of a keeper, and binding it."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from asgipipe.deployers.keeper.private import private_folder
from asgipipe.errors import DeploymentError, ServerError
from asgipipe.servers.sockets import bind_address


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports from `first` to `last`, both among them."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "PortRange":
        """Read `8000-8999`. Raises ValueError."""
        first, _, last = text.partition("-")
        return cls(int(first), int(last))

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class PortClaim:
    """Keeps other keepers of this user off a port between the moment it is bound and the one it is listened on.

    Linux lets several sockets be bound to one port, as long as nobody listens on it. Unlike a socket that listens, one
    that is bound refuses clients while the server starts.
    """

    def __init__(self) -> None:
        self._lock: int | None = None

    def take(self, port: int) -> bool:
        """Say whether nobody else has claimed the port; what was claimed before is free again."""
        self.release()
        try:
            self._lock = os.open(private_folder() / f"port-{port}", os.O_RDWR | os.O_CREAT, 0o600)
        except (DeploymentError, OSError):  # such as a file system that is read-only: the race is unlikely enough
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def bound(host: str, port: int, otherwise: PortRange | None, claim: PortClaim) -> socket.socket:
    """Return a socket that is bound to `port`, or the first free port of `otherwise`, and does not listen yet.

    Raises DeploymentError.
    """
    listener = _bound_to_first(host, [port], claim)
    if listener is None and otherwise is not None:
        listener = _bound_to_first(host, range(otherwise.first, otherwise.last + 1), claim)
        if listener is None:
            raise DeploymentError(f"no port of {host} from {otherwise.first} to {otherwise.last} is free")
    if listener is None:
        raise DeploymentError(f"another program listens on {host}:{port}: stop it, or choose another port")
    return listener


def _bound_to_first(host: str, ports: Iterable[int], claim: PortClaim) -> socket.socket | None:
    for port in ports:
        if port and not claim.take(port):
            continue
        try:
            return bind_address(host, port)
        except ServerError as error:
            cause = error.__cause__
            # A range may begin below those that everybody may take.
            if not isinstance(cause, OSError) or cause.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise DeploymentError(str(error)) from error
            if cause.errno == errno.EACCES and isinstance(ports, list):
                raise DeploymentError(str(error)) from error
    claim.release()
    return None
