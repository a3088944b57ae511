import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asgipipe.deployers.keeper import ports
from asgipipe.deployers.keeper.ports import PortClaim, PortRange, bound
from asgipipe.errors import DeploymentError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ports, "private_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def claim() -> Iterator[PortClaim]:
    made = PortClaim()
    yield made
    made.release()


def test_a_range_is_read_and_written() -> None:
    """What `str` gives, `parse` takes; anything else is refused."""
    assert str(PortRange.parse("8000-8999")) == "8000-8999"
    for wrong in ("8000", "a-b", ""):
        with pytest.raises(ValueError, match="invalid literal"):
            PortRange.parse(wrong)


def test_a_claim_is_one_keepers(claim: PortClaim) -> None:
    """A port is claimed once, until it is released or another one is claimed."""
    other = PortClaim()
    assert claim.take(8001)
    assert not other.take(8001)
    assert claim.take(8002)
    assert other.take(8001)
    other.release()


def test_where_nothing_can_be_written_there_are_no_claims(claim: PortClaim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose folders are read-only can bind ports all the same."""

    def refuse() -> Path:
        raise DeploymentError("the folder cannot be made")

    monkeypatch.setattr(ports, "private_folder", refuse)
    with closing(bound("127.0.0.1", 0, None, claim)):
        assert claim.take(8001)
    monkeypatch.setattr(ports, "private_folder", lambda: Path("/proc"))
    assert claim.take(8001)


def test_a_range_that_is_taken_in_part(claim: PortClaim) -> None:
    """Of a range, the first port is taken that nobody listens on and no other keeper has claimed."""
    other = PortClaim()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert other.take(port + 1)
        with closing(bound("127.0.0.1", port, PortRange(port, port + 50), claim)) as listener:
            assert port + 1 < listener.getsockname()[1] <= port + 50
    other.release()
