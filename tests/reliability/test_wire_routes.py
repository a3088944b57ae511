"""The same over the wire, where the server has its part in it: one server for each app runner."""

import json
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import pytest

from tests.reliability import raw
from tests.reliability.conftest import SERVED
from tests.reliability.served.guarded import KEY
from tests.reliability.sites import FLAVORS
from tests.servers.command import Command, needs_gunicorn, serving

RIGHT = f"Authorization: Bearer {KEY}"
KEYS = {
    "none": [],
    "wrong": ["Authorization: Bearer canary-012345678"],
    "non-ASCII": ["Authorization: Bearer \xfc\xff"],
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
GUARDED = (
    "/invoke",
    "/info",
    "/metrics",
    "/status",
    "/closed",
    "/closed/name",
    "/native-closed",
    "/mount-closed/inside",
    "/socket-closed",
    "/missing",
)
OPEN = ("/health", "/ready", "/docs", "/redoc", "/openapi.json", "/open", "/native-open", "/")


SERVERS = [
    *(pytest.param((flavor, "uvicorn"), id=flavor) for flavor in FLAVORS),
    pytest.param(("starlette", "gunicorn"), id="gunicorn", marks=needs_gunicorn),
]


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    flavor, server = request.param
    pytest.importorskip(flavor)
    folder = tmp_path_factory.mktemp("guarded")
    target, environment = SERVED / "guarded.py:guarded", {"FLAVOR": flavor}
    with serving(target, "--server", server, folder=folder, environment=environment) as running:
        yield running
        assert running.stop() == 0, running.output


def forms(path: str) -> list[str]:
    """Return the ways to write a path on the wire, and some that come close."""
    first, rest = path[:2], path[2:]
    return [
        path,
        f"{path}/",
        f"/{path}",
        f"//{path}",
        f"{path}//",
        f"/%2f{path[1:]}",
        f"%2f{path[1:]}",
        f"{path}%2f",
        f"{path}%00",
        f"/%{ord(first[1:] or 'x'):02x}{rest}",
        f"/.{path}",
        f"/health/..{path}",
        f"/health/%2e%2e{path}",
        f"/health;{path}",
        f"/health%3f{path}",
        f"{path}?key={KEY}",
        f"{path}#/health",
        f"{path};/health",
        path.upper(),
        f"http://test{path}",
        f"http://test/{path}",
        f"http://user:{KEY}@test{path}",
        f"http://other/health/..{path}",
    ]


def path_in_scope(target: str) -> str:
    """What the server makes of a request target: the path of an absolute form, decoded once."""
    path = urlsplit(target).path if target.startswith("http:") else target.partition("?")[0].partition("#")[0]
    return unquote(path)


class Client:
    """Asks on one connection as long as the server keeps it open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: raw.Connection | None = None

    def ask(self, method: str, target: str, *fields: str) -> raw.Answer:
        if self._connection is None:
            self._connection = raw.Connection(self._port)
        answer = self._connection.ask(raw.request(method, target, *fields), head=method == "HEAD")
        if answer.header(b"connection") == b"close":
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None


@pytest.fixture
def client(running: Command) -> Iterator[Client]:
    client = Client(running.port)
    yield client
    client.close()


def by_application(answer: raw.Answer) -> bool:
    """Whether the application made this answer: what the server itself refuses is plain text and has no request id."""
    return answer.header(b"x-request-id") is not None


@pytest.mark.parametrize("key", KEYS)
def test_only_the_open_list_answers_on_the_wire(client: Client, key: str) -> None:
    """Rows 36 and 37: every path, however it is written on the wire, is a 401 unless it is listed open."""
    answered: set[tuple[str, str]] = set()
    for path in (*GUARDED, *OPEN):
        for target in forms(path):
            for method in METHODS:
                answer = client.ask(method, target, *KEYS[key])
                if not by_application(answer):
                    assert answer.status == 400, (method, target)
                    continue
                assert answer.is_secured(), (method, target, answer)
                if answer.status == 401:
                    assert answer.header(b"www-authenticate") == b"Bearer"
                elif answer.status != 405 or method in {"GET", "HEAD"}:  # a view of Django's takes all methods at first
                    answered.add((method, path_in_scope(target)))
                    assert answer.status == 200, (method, target, answer)
    expected = {(method, path) for path in OPEN for method in ("GET", "HEAD")}
    assert answered == expected


def test_the_right_key_opens_it_on_the_wire(client: Client) -> None:
    """Rows 36 and 37: with the key every route answers, what is not there is a 404, other methods a 405."""
    for path in ("/info", "/metrics", "/status", "/closed", "/closed/name", "/native-closed"):
        for field in (RIGHT, f"authorization: bearer   {KEY}"):
            assert client.ask("GET", path, field).status == 200, path
            assert client.ask("HEAD", path, field).status == 200, path
        for target in (f"{path}/", f"/{path}", f"{path}%2f"):
            answer = client.ask("GET", target, RIGHT)
            assert answer.status == 404, (target, answer)
            assert answer.is_problem()
        refused = client.ask("DELETE", path, RIGHT)
        assert refused.status == 405
        assert refused.header(b"allow"), path


@pytest.mark.parametrize("target", ["*", "test:80", "http://test"])
def test_targets_without_a_path(running: Command, target: str) -> None:
    """Row 36: `OPTIONS *`, the authority form and an absolute form without a path open nothing."""
    for method in ("OPTIONS", "GET", "CONNECT"):
        with raw.Connection(running.port) as connection:
            connection.send(raw.request(method, target))
            said = connection.answer()
            assert said.status in {400, 401} or target == "http://test", said
    assert raw.ask(running.port, raw.request("GET", "/health")).status == 200


def test_headers_of_the_server_are_ours_alone(running: Command) -> None:
    """Row 37: 200, 400, 404, 405, 413, 415, 422, 431, 500 and 504 carry every header once, over the wire."""
    json_type = "Content-Type: application/json"
    asked = {
        200: raw.invoke(b"{}", RIGHT),
        400: raw.invoke(b"{", RIGHT),
        404: raw.request("GET", "/missing", RIGHT),
        405: raw.request("PUT", "/invoke", RIGHT),
        413: raw.invoke(b" " * 1001, RIGHT),
        415: raw.request("POST", "/invoke", RIGHT, body=b"{}"),
        422: raw.invoke({"number": "x"}, RIGHT),
        431: raw.request("GET", "/info", RIGHT, *[f"X-{number}: y" for number in range(101)]),
        500: raw.invoke({"number": -1}, RIGHT),
        504: raw.request("POST", "/invoke", RIGHT, json_type, body=b'{"parameters": {"number": 0}, "timeout": 0.05}'),
    }
    for status, sent in asked.items():
        answer = raw.ask(running.port, sent)
        assert answer.status == status
        assert answer.is_secured(), answer
        names = [name for name, _ in answer.headers]
        assert len(names) == len(set(names)), names
    sane, insane = "a.b_c-1", "a b\u00ff" + "x" * 200
    for sent_id, kept in ((sane, True), (insane, False)):
        got = raw.ask(running.port, raw.request("GET", "/health", f"X-Request-Id: {sent_id}")).header(b"x-request-id")
        assert (got == sent_id.encode("latin-1")) is kept


def test_handshakes_need_the_key(running: Command) -> None:
    """Row 36: a handshake is refused without the key, in every way to write its path, and open where it is listed."""
    subprotocol = "Y2FuYXJ5LTAxMjM0NTY3ODk"
    for target in [*forms("/socket-closed"), "/missing", "/invoke", "/health/..", "/native-closed"]:
        for key in ("none", "wrong", "non-ASCII"):
            with raw.Connection(running.port) as connection:
                answer = connection.ask(raw.handshake(target, *KEYS[key]))
                assert answer.status in {400, 401, 403}, (target, answer)
    for target, fields in (
        ("/socket-open", []),
        ("/socket-closed", [RIGHT]),
        ("/socket-closed", [f"Sec-WebSocket-Protocol: bearer.{subprotocol}"]),
    ):
        with raw.Connection(running.port) as connection:
            assert connection.ask(raw.handshake(target, *fields), head=True).status == 101, target
            connection.send(b"\x81\x82\0\0\0\0hi")
            assert connection.socket.recv(64) == b"\x81\x02hi"


def test_websocket_limits(running: Command) -> None:
    """Row 10: a message over a mebibyte closes with 1009, SystemExit in a handler its own socket only."""
    with raw.Connection(running.port) as other:
        assert other.ask(raw.handshake("/socket-open"), head=True).status == 101
        for sent, code in ((large_frame(1024 * 1024 + 1), 1009), (b"\x81\x84\0\0\0\0fail", None)):
            with raw.Connection(running.port) as connection:
                assert connection.ask(raw.handshake("/socket-open"), head=True).status == 101
                connection.pour([sent, b"\x88\x80\0\0\0\0"])  # a server that closes waits for our part in it
                closing = connection.rest()
                if code is not None:
                    assert closing[:1] == b"\x88"
                    assert int.from_bytes(closing[2:4]) == code
        other.send(b"\x81\x82\0\0\0\0hi")
        assert other.socket.recv(64) == b"\x81\x02hi"
    assert running.process.poll() is None


def large_frame(size: int) -> bytes:
    return b"\x81\xff" + size.to_bytes(8) + b"\0\0\0\0" + b"a" * size


def test_documents_name_no_key(running: Command) -> None:
    """Row 36: what is open without a key does not hold it."""
    for path in OPEN:
        assert KEY.encode() not in raw.ask(running.port, raw.request("GET", path, "Accept: text/html")).body
    document = json.loads(raw.ask(running.port, raw.request("GET", "/openapi.json")).body)
    assert document["components"]["securitySchemes"]
