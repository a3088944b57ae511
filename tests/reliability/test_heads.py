from contextlib import suppress

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.servers.command import Command


def refused(running: Command, sent: bytes) -> int:
    """Return the status of the refusal; the server must go on."""
    with raw.Connection(running.port) as connection:
        connection.pour([sent])
        status = connection.answer().status
    assert raw.ask(running.port, raw.invoke({"values": [1]})).status == 200
    return status


def test_heads_that_are_too_large_are_refused(serve: Serve) -> None:
    """Row 5: a field of eight mebibytes, twenty thousand fields, a path or a query without end are a 400 or 431."""
    huge = "a" * 8 * 1024 * 1024
    many = [f"X-{number}: y" for number in range(20_000)]
    with serve("load.py:numbers") as running:
        for sent in (
            raw.request("GET", "/health", f"X-Huge: {huge}"),
            raw.request("GET", "/health", f"{huge}: x"),
            raw.request("GET", "/health", *many),
            raw.request("GET", f"/{huge}"),
            raw.request("GET", f"/health?{huge}"),
        ):
            with suppress(EOFError):  # a client that is still sending may see the close before the answer
                assert refused(running, sent) in {400, 431}


def test_a_head_within_its_bytes_may_still_have_too_many_fields(serve: Serve) -> None:
    """Row 5: twenty thousand short fields that fit into `max_header_size` are refused by their number."""
    many = [f"X-{number}: y" for number in range(20_000)]
    with serve("load.py:numbers", "--max-header-size", 1024 * 1024) as running:
        with raw.Connection(running.port) as connection:
            answer = connection.ask(raw.request("GET", "/health", *many))
        assert answer.status == 431
        assert answer.is_problem()
        assert answer.is_secured()


AMBIGUOUS = {
    "no Host": b"GET /health HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /health HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n",
    "one Host twice": b"GET /health HTTP/1.1\r\nHost: one\r\nhost: one\r\n\r\n",
    "folded": b"GET /health HTTP/1.1\r\nHost: one\r\nX-A: b\r\n folded\r\n\r\n",
    "space before the colon": b"GET /health HTTP/1.1\r\nHost : one\r\n\r\n",
    "NUL in a name": b"GET /health HTTP/1.1\r\nHost: one\r\nX-\0: b\r\n\r\n",
    "two keys": b"GET /health HTTP/1.1\r\nHost: one\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "unknown version": b"GET /health HTTP/9.9\r\nHost: one\r\n\r\n",
    "lower-case method": b"get /health HTTP/1.1\r\nHost: one\r\n\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\nHost: one\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def test_ambiguous_heads_are_refused(serve: Serve) -> None:
    """Row 5: what two readers could understand in two ways is a 400, and the server lives."""
    with serve("load.py:numbers") as running:
        assert {what: refused(running, sent) for what, sent in AMBIGUOUS.items()} == dict.fromkeys(AMBIGUOUS, 400)


def test_http_1_0_needs_no_host(serve: Serve) -> None:
    """Row 5: the Host is required from HTTP/1.1 on; probes of old load balancers are answered."""
    with serve("load.py:numbers") as running, raw.Connection(running.port) as connection:
        assert connection.ask(b"GET /health HTTP/1.0\r\n\r\n").status == 200
        assert connection.rest() == b""
