"""Giving a listening socket to another process of the same user, through a Unix socket."""

import os
import socket
import struct
from contextlib import closing, suppress
from pathlib import Path

_PATIENCE = 5.0
"""Seconds in which the other side, a keeper that waits for nothing else, has to answer."""
_LISTENER = b"listener"
_CREDENTIALS = struct.Struct("3i")


class Offer:
    """A Unix socket at `path`, at which whoever connects is given `listener`."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self._path = path
        self._listener = listener
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(os.fspath(path))
            path.chmod(0o600)
            self._socket.listen(4)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def answer(self) -> None:
        """Give the listener to the one who has connected, if it is the same user."""
        with suppress(OSError):
            peer, _ = self._socket.accept()
            with closing(peer):
                peer.settimeout(_PATIENCE)
                if _is_same_user(peer):
                    socket.send_fds(peer, [_LISTENER], [self._listener.fileno()])

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


def taken_over(path: Path) -> socket.socket:
    """Return the listener that is offered at `path`. Raises OSError when there is none, or it is a stranger's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(os.fspath(path))
        if not _is_same_user(connection):
            raise PermissionError(f"{path} belongs to another user")
        message, descriptors, _, _ = socket.recv_fds(connection, len(_LISTENER), 1)
        if message != _LISTENER or len(descriptors) != 1:
            raise ConnectionError(f"{path} offers no listener")
        listener = socket.socket(fileno=descriptors[0])
        listener.set_inheritable(False)
        return listener


def _is_same_user(peer: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # macOS: nobody else can enter the folder of the socket
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(user == os.getuid())
