import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from asgipipe.deployers.keeper import handing_over
from asgipipe.deployers.keeper.handing_over import Offer, taken_over


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@contextmanager
def offered(path: Path, listener: socket.socket) -> Iterator[None]:
    """Answer whoever connects at `path`, once."""
    with closing(Offer(path, listener)) as offer:

        def answer() -> None:
            if select.select([offer], [], [], 10.0)[0]:
                offer.answer()

        thread = threading.Thread(target=answer, name="offering")
        thread.start()
        yield
        thread.join()


def test_the_same_socket_arrives(tmp_path: Path, listener: socket.socket) -> None:
    """What is taken over is the listener itself, not inherited by anybody, and the one who gave it still has it."""
    with offered(tmp_path / "offer", listener):
        assert (tmp_path / "offer").stat().st_mode & 0o777 == 0o600
        with taken_over(tmp_path / "offer") as taken:
            assert os.path.sameopenfile(taken.fileno(), listener.fileno())
            assert not taken.get_inheritable()
    assert listener.fileno() >= 0
    assert not (tmp_path / "offer").exists()


def test_a_strangers_offer_is_not_taken(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket of another user's is refused."""
    with offered(tmp_path / "offer", listener):
        monkeypatch.setattr(handing_over.os, "getuid", lambda: 4321)
        with pytest.raises(PermissionError, match="belongs to another user"):
            taken_over(tmp_path / "offer")


def test_a_stranger_is_given_nothing(tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user who could reach the socket would get no listener."""
    monkeypatch.setattr(handing_over, "_is_same_user", lambda _: threading.current_thread().name != "offering")
    with offered(tmp_path / "offer", listener), pytest.raises(ConnectionError, match="offers no listener"):
        taken_over(tmp_path / "offer")


def test_nobody_offers(tmp_path: Path) -> None:
    """Where no keeper is, the error says so."""
    with pytest.raises(FileNotFoundError):
        taken_over(tmp_path / "offer")
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(os.fspath(tmp_path / "left"))
    with pytest.raises(ConnectionRefusedError):
        taken_over(tmp_path / "left")


def test_what_was_left_behind_is_replaced(tmp_path: Path, listener: socket.socket) -> None:
    """The socket file of a keeper that was killed does not keep the next one from offering."""
    (tmp_path / "offer").touch()
    with offered(tmp_path / "offer", listener), taken_over(tmp_path / "offer") as taken:
        assert taken.getsockname() == listener.getsockname()
