import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability import raw
from tests.reliability.conftest import SERVED
from tests.servers.command import Command, serving

PROPERTY = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class KeptAlive:
    """One connection for many requests; a new one only where the server said that it would close."""

    def __init__(self, port: int) -> None:
        self.connection = raw.Connection(port)
        self._port = port

    def ask(self, data: bytes) -> raw.Answer:
        answer = self.connection.ask(data)
        if answer.header(b"connection") == b"close":
            self.renew()
        return answer

    def renew(self) -> None:
        self.connection.socket.close()
        self.connection = raw.Connection(self._port)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """One server for all examples."""
    folder = tmp_path_factory.mktemp("raw")
    patient = '{"timeout_keep_alive": 60}'
    with serving(SERVED / "typed.py:typed", "--uvicorn-kwargs", patient, folder=folder) as running:
        yield running
        assert running.stop() == 0, running.output


@pytest.fixture(scope="module")
def kept(running: Command) -> Iterator[KeptAlive]:
    kept = KeptAlive(running.port)
    yield kept
    kept.connection.socket.close()


REFUSALS = {400, 405, 408, 413, 415, 422, 431}


def objects(members: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    names = st.sampled_from(["parameters", "run_name", "timeout", "count", "when", "choice", "nested"]) | st.text()
    return st.dictionaries(names, members)


values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | objects(inner)
)


def as_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def mutated(data: bytes, place: int, piece: bytes) -> bytes:
    place %= len(data) + 1
    return data[:place] + piece + data[place + 1 :]


VALID = b'{"parameters": {"count": 3, "when": "2031-02-03T04:05:06Z", "choice": "a", "nested": {"items": [1.5]}}}'

bodies = (
    st.binary(max_size=2000)
    | objects(values).map(as_bytes)
    | values.map(as_bytes)
    | st.builds(lambda inner: as_bytes({"parameters": inner}), objects(values))
    | st.builds(mutated, st.just(VALID), st.integers(0, 200), st.binary(max_size=4))
)


@given(body=bodies)
@PROPERTY
def test_no_body_is_a_server_error(kept: KeptAlive, body: bytes) -> None:
    """Row 33: whatever bytes are the body, the answer on the kept connection is 200 or a refusal with its problem."""
    answer = kept.ask(raw.invoke(body))
    assert answer.status in REFUSALS | {200}, answer
    assert answer.status == 200 or answer.is_problem()
    assert answer.is_secured()


field_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
fields = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Type", "Accept", "Prefer", "X-Request-Id", "Authorization", "Origin", "Expect", "Cookie"]
        ),
        field_text,
    ).map(": ".join),
    max_size=5,
)
paths = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(lambda rest: f"/{rest}") | st.text(
    st.sampled_from("mode=sync&;%20+"), max_size=20
).map(lambda query: f"/invoke?{query}")


@given(path=paths, fields=fields, body=st.binary(max_size=50))
@PROPERTY
def test_no_head_is_a_server_error(kept: KeptAlive, path: str, fields: list[str], body: bytes) -> None:
    """Row 33: whatever a request's path, query and fields hold, the answer is no server error."""
    try:
        answer = kept.ask(raw.request("POST", path, *fields, body=body))
    except EOFError:
        kept.renew()
        return
    assert answer.status < 500, answer


@given(
    data=st.binary(min_size=1, max_size=200)
    | st.builds(mutated, st.just(raw.invoke(VALID)), st.integers(), st.binary())
)
@PROPERTY
def test_no_bytes_are_a_server_error(running: Command, data: bytes) -> None:
    """Row 33: arbitrary bytes in the place of a request are refused, or the connection is closed."""
    with raw.Connection(running.port) as connection:
        connection.send(data + b"\r\n\r\n")
        connection.socket.shutdown(socket.SHUT_WR)
        said = connection.rest()
    assert not said or int(said[9:12]) < 500, said[:200]
