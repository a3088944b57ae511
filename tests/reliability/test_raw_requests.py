import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability import raw
from tests.reliability.conftest import SERVED
from tests.reliability.sites import FLAVORS
from tests.servers.command import Command, serving

PROPERTY = settings(
    max_examples=60,
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


@pytest.fixture(scope="module", params=FLAVORS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """One server of each app runner for all examples."""
    pytest.importorskip(request.param)
    folder, environment = tmp_path_factory.mktemp("raw"), {"FLAVOR": request.param}
    patient = '--uvicorn-kwargs={"timeout_keep_alive": 60}'
    with serving(SERVED / "typed.py:typed", patient, folder=folder, environment=environment) as running:
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


TYPES = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=\xfc",
    "application/json; charset=no-such-charset",
    "text/plain; charset=utf-16",
)
PART = b'--b\r\nContent-Disposition: form-data; name="count"; filename="a"\r\n\r\n1\r\n--b--\r\n'
forms = (
    bodies
    | st.builds(mutated, st.just(PART), st.integers(0, 100), st.binary(max_size=4))
    | st.text(st.sampled_from("count=1&%;+[]\xfc")).map(lambda text: text.encode("latin-1"))
)


@given(number=st.integers(0, 1), kind=st.sampled_from(TYPES), body=forms)
@PROPERTY
def test_no_body_breaks_the_framework(kept: KeptAlive, number: int, kind: str, body: bytes) -> None:
    """Row 33: what a handler reads with the framework's own parsers is no server error either, whatever it is."""
    for path in (f"/reading/{number}", "/plain/x"):
        answer = kept.ask(raw.request("POST", path, f"Content-Type: {kind}", body=body))
        assert answer.status in REFUSALS | {200, 404}, answer
        assert answer.status == 200 or answer.is_problem()
        assert answer.is_secured()


field_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
fields = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("Content-Type", "Accept", "Prefer", "X-Request-Id", "Authorization", "Origin", "Expect", "Cookie"),
                *("X-Forwarded-Proto", "X-Forwarded-For", "Forwarded", "Range", "If-None-Match", "Upgrade"),
            ]
        ),
        field_text,
    ).map(": ".join),
    max_size=5,
)
paths = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(lambda rest: f"/{rest}") | st.text(
    st.sampled_from("mode=sync&;%20+"), max_size=20
).flatmap(lambda query: st.sampled_from([f"/invoke?{query}", f"/reading/0?{query}", f"/plain/{query}"]))


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
