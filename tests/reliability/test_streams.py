"""Event streams through what stands around a deployment, and in front of readers that stop."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.reliability.following import Follower, event_of, is_whole, streamed
from tests.servers.command import PATIENCE

for flavor in ("fastapi", "quart"):
    pytest.importorskip(flavor)

from tests.reliability.served.places import BELOW, HEARTBEAT, PLACES, RESPONSE_TIMEOUT

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Places:
    """A server with a deployment in every place."""

    port: int
    folder: Path

    def stream(self, place: str, parameters: object) -> Follower:
        path = "/below/invoke" if place in BELOW else "/invoke"
        request = streamed(parameters, f"X-Specimen: {place}", "Accept-Encoding: gzip", path=path)
        return Follower(raw.Connection(self.port), request)

    def open_gate(self, number: int) -> None:
        (self.folder / f"gate-{number}").touch()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("places")
    command = ["uvicorn", "--factory", "tests.reliability.served.places:application", "--log-level", "warning"]
    # Bound here: connections wait until the server is ready.
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--fd", str(listening.fileno())],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"},
            pass_fds=(listening.fileno(),),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Places(listening.getsockname()[1], folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
    assert (folder / "log").read_text() == ""


@pytest.mark.parametrize("place", PLACES)
def test_events_and_comments_come_one_by_one(places: Places, place: str) -> None:
    """What compresses does not hold them back, and what limits the time of an answer does not cut them off."""
    first = 10 * (1 + list(PLACES).index(place))  # gates of its own
    gates = [first + number for number in range(3)]
    with places.stream(place, {"count": gates[-1], "gates": gates}) as follower:
        assert follower.head.status == 200
        assert follower.head.header(b"content-encoding") is None
        assert follower.head.header(b"cache-control") == b"no-store, no-transform"
        for gate in gates:
            follower.until(gate + 1)  # two events come before the first line
            assert event_of(follower.frames[-1])["data"] == {"delta": f"line {gate - 1} of {gates[-1]}\n"}
            if gate == gates[0]:
                follower.hear(int(1.2 * RESPONSE_TIMEOUT / HEARTBEAT))
                assert follower.last == gate + 1
            places.open_gate(gate)
        assert is_whole(follower.rest())
        assert event_of(follower.frames[-1])["event_type"] == "pipeline_completed"
