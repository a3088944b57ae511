import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asgipipe.deployers.keeper.handing_over import taken_over

PATIENCE = 20.0

Hold = Callable[[int], "subprocess.Popen[str]"]


@pytest.fixture
def offer(tmp_path: Path) -> Path:
    return tmp_path / "offer.sock"


@pytest.fixture
def hold(offer: Path) -> Iterator[Hold]:
    """Hold a port of the loopback address."""
    started: list[subprocess.Popen[str]] = []

    def hold(port: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "asgipipe.deployers.container.hold", "127.0.0.1", str(port), str(offer)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def offered(path: Path) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return taken_over(path)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_whoever_asks_gets_the_same_listener(hold: Hold, offer: Path) -> None:
    """Two revisions have one address, at which clients are refused until one of them listens."""
    hold(0)
    with closing(offered(offer)) as first, closing(offered(offer)) as second:
        address = first.getsockname()
        assert second.getsockname() == address
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        second.listen()
        with socket.create_connection(address, timeout=5):
            first.setblocking(True)
            first.accept()[0].close()


def test_it_ends_when_it_is_told_to(hold: Hold, offer: Path) -> None:
    """SIGTERM ends it with status 0, and its offer is gone."""
    process = hold(0)
    offered(offer).close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert not offer.exists()


def test_a_taken_port_is_one_message(hold: Hold) -> None:
    """A port on which somebody else listens is said on one line, with status 3."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        process = hold(other.getsockname()[1])
        assert process.wait(PATIENCE) == 3
        assert process.stderr is not None
        error = process.stderr.read()
        assert error.startswith("Error: another program listens on")
        assert error.count("\n") == 1
