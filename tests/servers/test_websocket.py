import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from asgipipe.http.types import Receive, Scope, Send
from asgipipe.servers.protocol import ProtocolLimits
from tests.reliability import raw
from tests.servers.command import PATIENCE, until
from tests.servers.test_protocol import Running

QUICK = ProtocolLimits(send_timeout=0.2)
PIECE = 60 * 1024


class Pouring:
    """Sends messages to a WebSocket until it fails, or as many as `limit`."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.sent = 0
        self.failure: Exception | None = None
        self.ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while self.limit is None or self.sent < self.limit:
                await send({"type": "websocket.send", "bytes": bytes(PIECE)})
                self.sent += 1
        except Exception as error:  # boundary: what a server raises for a client that is gone
            self.failure = error
        self.ended.set()


@contextlib.contextmanager
def serving(app: Pouring) -> Iterator[Running]:
    running = Running(app, QUICK)
    try:
        yield running
    finally:
        running.stop()


def connect(running: Running) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(running.listener.getsockname())
    connection.sendall(raw.handshake("/"))
    return connection


def test_a_websocket_nobody_reads_is_dropped() -> None:
    """Row 7: the application is told within the send timeout, the connection is gone, and little was kept for it."""
    app = Pouring()
    with serving(app) as running, connect(running):
        until(app.ended.is_set, "the application to be told")
        assert isinstance(app.failure, OSError)
        until(lambda: running.connections == 0, "the connection to be dropped")
        assert app.sent * PIECE < 32 * 1024 * 1024


@pytest.mark.parametrize("more", [0, 1])
def test_the_last_bytes_of_a_websocket_do_not_keep_it(more: int) -> None:
    """One whose application has ended is dropped although nobody takes what is left, be it little."""
    first = Pouring()
    with serving(first) as running, connect(running):
        until(first.ended.is_set, "the kernel's buffers to be full")
    app = Pouring(first.sent - 1 + more)
    with serving(app) as running, connect(running):
        until(app.ended.is_set, "the application to end")
        until(lambda: running.connections == 0, "the connection to be dropped")
