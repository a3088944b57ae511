import asyncio

import pytest

from asgipipe.http.types import Scope
from tests.conftest import lifespan
from tests.http.wire import Ask, ask_one, deployed, handshake, invoke, websocket_scope

SETTINGS = {"max_header_count": 10, "max_header_size": 1000, "max_request_body_size": 100}


def echo(x: int = 1) -> int:
    return x


def many(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"x-%d" % index, b"1") for index in range(count)]


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (many(10), "A request may have 10 header fields at most."),  # and the Host
        ([(b"x", b"a" * 1000)], "The head of a request may have 1000 bytes at most."),
        ([(b"x" * 1000, b"a")], "The head of a request may have 1000 bytes at most."),
    ],
)
def test_a_large_head_is_a_431(headers: list[tuple[bytes, bytes]], detail: str) -> None:
    """Too many fields, or too many bytes in them, are refused before anything else is looked at."""
    reply = ask_one(echo, Ask("GET", "/health", headers), SETTINGS)
    assert reply.problem == {
        "type": "urn:asgipipe:headers-too-large",
        "title": "Request Header Fields Too Large",
        "status": 431,
        "detail": detail,
    }


@pytest.mark.parametrize("path", ["/" + "a" * 1000, "/health?" + "a" * 1000])
def test_the_path_and_the_query_count_too(path: str) -> None:
    """The request line is a part of the head."""
    assert ask_one(echo, Ask("GET", path), SETTINGS).status == 431


def test_a_head_at_the_limits() -> None:
    """As many fields as allowed are fine."""
    assert ask_one(echo, Ask("GET", "/health", many(9)), SETTINGS).status == 200


@pytest.mark.parametrize("name", [b"host", b"authorization", b"content-type", b"content-length"])
def test_ambiguous_headers_are_refused(name: bytes) -> None:
    """Two of these could mean one thing to a proxy and another to us, also when they are equal."""
    reply = ask_one(echo, Ask("GET", "/health", [(name, b"1"), (name, b"1")]))
    assert reply.problem["detail"] == f"The header {name.decode()} was sent more than once."
    assert reply.status == 400


def test_other_headers_may_be_repeated() -> None:
    """Lists may be sent in several fields (RFC 9110, section 5.3)."""
    headers = [(b"accept", b"text/html"), (b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert ask_one(echo, Ask("GET", "/health", headers)).status == 200


def test_http_1_1_needs_a_host() -> None:
    """Only HTTP/1.0 may leave it out (RFC 9112, section 3.2)."""
    assert ask_one(echo, Ask("GET", "/health", scope={"headers": []})).status == 400
    assert ask_one(echo, Ask("GET", "/health", scope={"headers": [], "http_version": "1.0"})).status == 200
    assert ask_one(echo, Ask("GET", "/health", scope={"headers": [], "http_version": "2"})).status == 200


@pytest.mark.parametrize("length", [b"-1", b"+1", b"0x1", b"1.0", b"", b" ", b"1 1", b"\xb2", b"1,1"])
def test_a_length_that_is_no_number(length: bytes) -> None:
    """A content-length is digits and nothing else."""
    reply = ask_one(echo, Ask("POST", "/invoke", [(b"content-length", length)]))
    assert reply.problem["detail"] == "The Content-Length is not a number."
    assert reply.status == 400


def test_a_declared_length_is_refused_unread() -> None:
    """A body that says it is too large is not waited for, on any path."""
    reply = ask_one(echo, Ask("POST", "/nothing", [(b"content-length", b"101")], chunks=[b""]), SETTINGS)
    assert reply.status == 413
    assert reply.header(b"connection") == b"close"


def test_a_body_at_the_limit() -> None:
    """The limit itself is allowed."""
    body = b'{"parameters":{"x":2}}'.ljust(100)
    assert ask_one(echo, invoke(body), SETTINGS).status == 200
    assert ask_one(echo, invoke(body + b" "), SETTINGS).status == 413


def test_websocket_handshakes_have_limits_too() -> None:
    """A handshake with a head that is too large is refused before anybody sees it."""

    async def main() -> None:
        app = deployed(echo, SETTINGS)
        async with lifespan(app):
            scope: Scope = websocket_scope(Ask(path="/ws", headers=many(11)), extensions=["websocket.http.response"])
            assert (await handshake(app, scope)).status == 431

    asyncio.run(main())
