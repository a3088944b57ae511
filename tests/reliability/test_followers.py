"""Followers that are cut off and go on elsewhere: with another process, on another server, after a kill."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.reliability.following import Follower, all_events, follow, follow_on, is_whole, job, number_of, submit
from tests.servers.command import Command, until

COUNT = 400
GATES = [100, 250, 330]
"""Numbers of the lines, and nearly of the events, before which the story waits."""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def open_gate(tmp_path: Path) -> Callable[[int], None]:
    return lambda number: (tmp_path / f"gate-{number}").touch()


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def pair(stack: ExitStack, serve: Serve, store: str) -> tuple[Command, Command]:
    first, second = (stack.enter_context(serve("story.py:story", ASGIPIPE_STORE_URL=store)) for _ in range(2))
    return first, second


def cut_at(follower: Follower, number: int) -> list[bytes]:
    """Read as far as an event, lose the connection, and return what was read."""
    with follower:
        follower.until(number)
        follower.cut()
        return [frame for frame in follower.frames if number_of(frame) <= number]


def test_a_follower_goes_on_with_another_server(
    serve: Serve, store: str, open_gate: Callable[[int], None], readers: ThreadPoolExecutor
) -> None:
    """Cut again and again, and each time going on with the other server, it gets what one gets that was never cut."""
    with ExitStack() as stack:
        servers = pair(stack, serve, store)
        job_id = submit(servers[0].port, {"count": COUNT, "gates": GATES})
        steady = [stack.enter_context(follow(server.port, job_id)) for server in servers]
        whole = [readers.submit(follower.rest) for follower in steady]
        seen: list[bytes] = []
        for turn, gate in enumerate(GATES):
            for number in (gate - 60, gate - 20):
                seen += cut_at(follow(servers[turn % 2].port, job_id, len(seen)), number)
            open_gate(gate)
        with follow(servers[1].port, job_id, len(seen)) as follower:
            seen += follower.rest()
        assert is_whole(seen)
        assert len(seen) > COUNT
        assert [reader.result() for reader in whole] == [seen, seen]
        for server in servers:
            assert all_events(server.port, job_id) == seen
            with follow(server.port, job_id, len(seen)) as over:
                assert over.head.status == 204


def test_a_follower_goes_on_when_its_server_was_killed(
    serve: Serve, notes: Notes, store: str, open_gate: Callable[[int], None]
) -> None:
    """After a kill -9 of the server that ran the job there is no gap, no number twice and one end, on either server."""
    with ExitStack() as stack:
        servers = list(pair(stack, serve, store))
        job_id = submit(servers[0].port, {"count": COUNT, "gates": GATES})
        notes.until("telling")
        running = next(server for server in servers if str(server.process.pid) in notes.of_each_process())
        (other,) = [server for server in servers if server is not running]
        near = stack.enter_context(follow(running.port, job_id))
        far = stack.enter_context(follow(other.port, job_id))
        near.until(GATES[0] - 10)
        running.signal(signal.SIGKILL)
        seen = near.lose()
        for gate in GATES:
            open_gate(gate)
        with follow(other.port, job_id, len(seen)) as follower:
            seen += follower.rest()
        assert is_whole(seen)
        assert far.rest() == seen == all_events(other.port, job_id)
        assert job(other.port, job_id)["attempt"] == 2
        assert notes.words() == ["telling", "telling", "closing"]


def on_process(port: int, wanted: int) -> raw.Connection:
    """Return a connection that the process with this id has."""
    for _ in range(1000):
        connection = raw.Connection(port)
        if connection.ask(raw.request("GET", "/process")).json() == wanted:
            return connection
        connection.socket.close()
    raise AssertionError(f"process {wanted} does not answer")


def workers_of(port: int, count: int) -> Sequence[int]:
    found: set[int] = set()

    def found_all() -> bool:
        found.add(raw.ask(port, raw.request("GET", "/process")).json())
        return len(found) == count

    until(found_all, f"{count} workers")
    return sorted(found)


def test_a_follower_goes_on_with_another_worker(serve: Serve, notes: Notes, open_gate: Callable[[int], None]) -> None:
    """With two workers it gets the same from both, wherever the job runs and wherever it goes on."""
    with serve("story.py:story", "--workers", 2) as running, ExitStack() as stack:
        port = running.port
        pids = workers_of(port, 2)
        job_id = submit(port, {"count": COUNT, "gates": GATES})
        steady = [stack.enter_context(follow_on(on_process(port, pid), job_id)) for pid in pids]
        seen: list[bytes] = []
        for turn, gate in enumerate(GATES):
            seen += cut_at(follow_on(on_process(port, pids[turn % 2]), job_id, len(seen)), gate - 10)
            open_gate(gate)
        with follow_on(on_process(port, pids[1]), job_id, len(seen)) as follower:
            seen += follower.rest()
        assert is_whole(seen)
        assert [follower.rest() for follower in steady] == [seen, seen]
        assert notes.words() == ["telling", "closing"]
