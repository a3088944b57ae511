"""The socket that a server listens on, bound before anything is started, so that a taken port is one clear message."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asgipipe.errors import ServerError

if TYPE_CHECKING:
    from asgipipe.servers.options import ServerOptions  # it takes uvicorn to import

LISTENER = "ASGIPIPE_LISTENER"
"""The environment variable with the descriptor of a bound socket that whoever started the command keeps for it."""


@contextlib.contextmanager
def bound(options: "ServerOptions") -> Iterator[socket.socket]:
    """A bound socket that does not listen yet; it is closed afterwards. Raises ServerError."""
    path = options.uvicorn.get("uds")
    with contextlib.closing(_bind(options)) as listener:
        try:
            yield listener
        finally:
            if path is not None:
                Path(path).unlink(missing_ok=True)


def _bind(options: "ServerOptions") -> socket.socket:
    descriptor, path = options.uvicorn.get("fd"), options.uvicorn.get("uds")
    inherited = os.environ.pop(LISTENER, None)  # not meant for commands that a pipeline starts
    if inherited is not None:
        return _inherited(inherited)
    if descriptor is not None:
        try:
            return socket.socket(fileno=descriptor)
        except OSError as error:
            raise ServerError(f"file descriptor {descriptor} (uvicorn_kwargs.fd) is no socket") from error
    if path is not None:
        return _bind_path(path)
    return bind_address(options.host, options.port)


def _inherited(descriptor: str) -> socket.socket:
    try:
        listener = socket.socket(fileno=int(descriptor))
    except (ValueError, OSError) as error:
        raise ServerError(f"file descriptor {descriptor!r} ({LISTENER}) is no socket") from error
    listener.set_inheritable(False)
    return listener


def bind_address(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet. Raises ServerError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServerError(f"the host {host!r} is unknown: {error.strerror}") from error
    # A name such as localhost has several addresses; clients find IPv4 under every one of its names.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise refusal(error, host, port) from error
    return listener


def _bind_path(path: str) -> socket.socket:
    if Path(path).is_socket():
        _remove_unless_used(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ServerError(f"cannot listen on the socket {path!r} (uvicorn_kwargs.uds): {error.strerror}") from error
    return listener


def _remove_unless_used(path: str) -> None:
    """Remove the file that a killed server left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            Path(path).unlink(missing_ok=True)


def refusal(error: OSError, host: str, port: int) -> ServerError:
    """Say why `host` and `port` cannot be listened on, and what to do about it."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            way_out = f"another program listens on {address}: stop it, or choose another port with --port (0 takes any)"
        case errno.EACCES:
            way_out = f"no permission to listen on {address}: choose a port from 1024 on with --port"
        case errno.EADDRNOTAVAIL:
            way_out = f"this machine has no address {host}: choose another one with --host"
        case _:
            way_out = f"cannot listen on {address}: {error.strerror}"
    return ServerError(way_out)


def origin(listener: socket.socket, options: "ServerOptions") -> str:
    """Return the scheme, host and port that a browser on this machine can use; for a Unix socket, its path."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host), name[1]
    return f"http{'s' if options.secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"
