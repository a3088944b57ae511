import asyncio

import pytest

from asgipipe.http.exchange import KEY, NO_DEFAULTS, DefaultHeaders, Exchange, exchange_of, local_path
from asgipipe.http.types import Message

DEFAULTS = DefaultHeaders([(b"server", b"asgipipe"), (b"cache-control", b"no-store")])
ID = (b"x-request-id", b"id")


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ([], [(b"server", b"asgipipe"), (b"cache-control", b"no-store"), ID]),
        ([(b"vary", b"a")], [(b"vary", b"a"), (b"server", b"asgipipe"), (b"cache-control", b"no-store"), ID]),
        ([(b"server", b"mine")], [(b"server", b"mine"), (b"cache-control", b"no-store"), ID]),
        ([(b"Server", b"mine")], [(b"server", b"mine"), (b"cache-control", b"no-store"), ID]),
        ([(b"SERVER", b"1"), (b"server", b"2")], [(b"server", b"2"), (b"cache-control", b"no-store"), ID]),
        ([(b"X-Request-Id", b"other")], [(b"server", b"asgipipe"), (b"cache-control", b"no-store"), ID]),
        (
            [(b"set-cookie", b"1"), (b"Set-Cookie", b"2")],
            [
                (b"set-cookie", b"1"),
                (b"Set-Cookie", b"2"),
                (b"server", b"asgipipe"),
                (b"cache-control", b"no-store"),
                ID,
            ],
        ),
        (
            [(b"1", b"no letters")],
            [(b"1", b"no letters"), (b"server", b"asgipipe"), (b"cache-control", b"no-store"), ID],
        ),
    ],
)
def test_defaults_are_added_once(given: list[tuple[bytes, bytes]], merged: list[tuple[bytes, bytes]]) -> None:
    """The application's own value is kept, compared without case; everything else stays as it is."""
    assert DEFAULTS.merge(given, b"id") == merged


def test_any_iterable_of_headers() -> None:
    """Frameworks send tuples, or lists of lists."""
    assert NO_DEFAULTS.merge(((b"a", b"1"),), b"id") == [(b"a", b"1"), ID]
    assert NO_DEFAULTS.merge([[b"A", b"1"]], b"id") == [(b"A", b"1"), ID]  # type: ignore[list-item]  # as ASGI allows


def test_the_first_message_gets_the_headers() -> None:
    """Only the start of an answer is changed, and the exchange knows that it has begun, and with which status."""
    sent: list[Message] = []

    async def main() -> Exchange:
        async def send(message: Message) -> None:
            sent.append(dict(message))

        exchange = Exchange(send, "/", {}, b"id", DEFAULTS)
        assert not exchange.started
        await exchange.send({"type": "http.response.start", "status": 201})
        await exchange.send({"type": "http.response.body", "body": b"x"})
        return exchange

    exchange = asyncio.run(main())
    assert (exchange.started, exchange.status) == (True, 201)
    assert sent == [
        {"type": "http.response.start", "status": 201, "headers": DEFAULTS.merge([], b"id")},
        {"type": "http.response.body", "body": b"x"},
    ]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"type": "websocket.accept"}, 101),
        ({"type": "websocket.close", "code": 1008}, 403),
        ({"type": "websocket.http.response.start", "status": 401, "headers": []}, 401),
    ],
)
def test_the_status_of_a_handshake(message: Message, status: int) -> None:
    """A WebSocket that is accepted counts as 101, one that is closed instead as 403."""

    async def main() -> int:
        async def send(message: Message) -> None: ...

        exchange = Exchange(send, "/", {}, b"id", DEFAULTS)
        await exchange.send(message)
        return exchange.status

    assert asyncio.run(main()) == status


@pytest.mark.parametrize(
    ("root", "path", "local"),
    [
        ("", "/x", "/x"),
        ("/", "/x", "/x"),
        ("/a", "/a/x", "/x"),
        ("/a", "/x", "/x"),
        ("/a", "/a", ""),
        ("/a", "/ab/x", "/ab/x"),
        ("/a/", "/a/x", "/x"),
        ("/a/b", "/a/b/x", "/x"),
        ("/a/b", "/x", "/x"),
        ("/a", "/a//x", "//x"),
        ("/a", "//a/x", "//a/x"),
        ("/ä b", "/ä b/x", "/x"),
    ],
)
def test_the_local_path(root: str, path: str, local: str) -> None:
    """`root_path` is taken off where it is in front, up to a slash, and nothing else is changed."""
    assert local_path({"path": path, "root_path": root}) == local


def test_a_scope_without_root_path() -> None:
    """Servers may leave it out."""
    assert local_path({"path": "/x"}) == "/x"


def test_the_exchange_lies_in_the_scope() -> None:
    """Every layer finds it there."""
    exchange = Exchange(lambda _: asyncio.sleep(0), "/", {}, b"id", NO_DEFAULTS)
    assert exchange_of({KEY: exchange}) is exchange
