import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.servers.protocol import ProtocolLimits, bounded_protocol
from asgipipe.servers.websocket import bounded_websocket
from tests.servers.command import PATIENCE, until

HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
QUICK = ProtocolLimits(receive_timeout=0.2, send_timeout=0.2, max_header_size=2048)


class Recorder:
    """An application that answers at once and remembers what it was sent."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.disconnected = threading.Event()
        self.chunks = 0
        self.release = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        if scope["path"] == "/endless":
            await self._pour(receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/wait":
            await asyncio.to_thread(self.release.wait, PATIENCE)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _pour(self, receive: Receive, send: Send) -> None:
        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        gone = asyncio.create_task(until_gone())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            self.chunks += 1
            await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
            await asyncio.sleep(0)
        self.disconnected.set()

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


class Running:
    def __init__(self, app: ASGIApp, limits: ProtocolLimits) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=bounded_protocol(limits),
            ws=bounded_websocket(limits),
            lifespan="off",
            log_config=None,
            timeout_keep_alive=PATIENCE,  # type: ignore[arg-type]
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        until(lambda: self.server.started, "the server")

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.listener.getsockname(), PATIENCE)
        connection.settimeout(PATIENCE)
        return connection

    def stop(self) -> None:
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(PATIENCE)
        self.listener.close()


Serve = Callable[[ASGIApp, ProtocolLimits], Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Running] = []

    def serve(app: ASGIApp, limits: ProtocolLimits) -> Running:
        running.append(Running(app, limits))
        return running[-1]

    yield serve
    for each in running:
        each.stop()


def everything(connection: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def one_answer(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


# Time


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", HEAD, b"\r\n", HEAD + b"X-Long: " + b"y" * 500],
    ids=["nothing", "one byte", "no end", "an empty line", "a field without end"],
)
def test_a_head_that_does_not_arrive_closes_the_connection(serve: Serve, sent: bytes) -> None:
    """A connection whose request head is not complete in time is closed without an answer."""
    with serve(Recorder(), QUICK).connect() as connection:
        connection.sendall(sent)
        assert everything(connection) == b""


def test_a_head_that_trickles_in_is_not_waited_for(serve: Serve) -> None:
    """Sending a byte now and then does not prolong the time of a head."""
    with serve(Recorder(), QUICK).connect() as connection, contextlib.suppress(OSError):
        connection.settimeout(0.02)
        connection.sendall(HEAD)
        while True:
            connection.sendall(b"X: y\r\n"[:1])
            with contextlib.suppress(TimeoutError):
                assert connection.recv(1) == b""
                return
    # A reset while sending is a closed connection as well.


def test_slow_heads_do_not_touch_others(serve: Serve) -> None:
    """While twenty connections wait for the rest of their heads, another one is answered."""
    app = Recorder()
    running = serve(app, QUICK)
    slow = [running.connect() for _ in range(20)]
    for each in slow:
        each.sendall(HEAD)
    with running.connect() as connection:
        connection.sendall(HEAD + b"\r\n")
        assert b"200 OK" in one_answer(connection)
    for each in slow:
        assert everything(each) == b""
        each.close()


@pytest.mark.parametrize("sent", [HEAD, b"\r\n"], ids=["half a head", "an empty line"])
def test_a_later_head_has_the_same_time(serve: Serve, sent: bytes) -> None:
    """On a connection that is kept alive, the beginning of a next request starts the clock again."""
    with serve(Recorder(), QUICK).connect() as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"\r\n")
            assert b"200 OK" in one_answer(connection)
        connection.sendall(sent)
        assert everything(connection) == b""


def test_the_clock_stands_still_while_a_request_is_answered(serve: Serve) -> None:
    """A request that takes many times the receive timeout is answered, and so is the next one."""
    app = Recorder()
    with serve(app, QUICK).connect() as connection:
        connection.sendall(HEAD.replace(b"/", b"/wait", 1) + b"\r\n")
        until(lambda: app.scopes, "the request")
        threading.Timer(5 * QUICK.receive_timeout, app.release.set).start()
        assert b"200 OK" in one_answer(connection)
        connection.sendall(HEAD + b"\r\n")
        assert b"200 OK" in one_answer(connection)


def test_an_idle_connection_is_kept_alive(serve: Serve) -> None:
    """Between two requests only uvicorn's keep-alive time counts."""
    with serve(Recorder(), QUICK).connect() as connection:
        connection.sendall(HEAD + b"\r\n")
        one_answer(connection)
        # Nothing to wait for: what must not happen is a close within several receive timeouts.
        connection.settimeout(5 * QUICK.receive_timeout)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(PATIENCE)
        connection.sendall(HEAD + b"\r\n")
        assert b"200 OK" in one_answer(connection)


def test_a_websocket_outlives_the_receive_timeout(serve: Serve) -> None:
    """After the upgrade the clock of the head is off."""
    with serve(Recorder(), QUICK).connect() as connection:
        connection.sendall(
            HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in connection.recv(65536)
        connection.settimeout(5 * QUICK.receive_timeout)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(PATIENCE)
        connection.sendall(b"\x81\x82\0\0\0\0hi")
        assert connection.recv(65536) == b"\x81\x02hi"


# Size

PATIENT = ProtocolLimits(max_header_size=32 * 1024)


def pour(connection: socket.socket, data: bytes, pieces: int) -> int:
    """Send `data` many times; return how many bytes went out before the server closed the connection."""
    sent = 0
    with contextlib.suppress(OSError):
        for _ in range(pieces):
            connection.sendall(data)
            sent += len(data)
    return sent


@pytest.mark.parametrize(
    "start", [HEAD + b"X-Long: ", b"GET /", b"GET / HTTP/1.1\r\nX-"], ids=["a value", "the path", "a name"]
)
def test_a_huge_head_is_refused_while_it_arrives(serve: Serve, start: bytes) -> None:
    """Of eight megabytes only a small part is taken before the connection is closed, and nothing reaches the app."""
    app = Recorder()
    with serve(app, PATIENT).connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(start)
        until_refused = pour(connection, b"a" * 4096, 2048)
        assert until_refused < 8 * 1024 * 1024
        assert app.scopes == []


def test_the_refusal_of_an_endless_head_is_a_plain_431(serve: Serve) -> None:
    """A head that is over the limit before it is complete gets its status in plain text, and a closed connection."""
    app = Recorder()
    with serve(app, QUICK).connect() as connection:
        connection.sendall(HEAD + b"X-Long: " + b"a" * QUICK.max_header_size)
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b"connection: close" in answer
        assert app.scopes == []


def test_many_small_chunks_are_a_body(serve: Serve) -> None:
    """What frames the chunks of a body counts for nothing, in one piece or in many."""
    app = Recorder()
    with serve(app, QUICK).connect() as connection:
        head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
        assert b"200 OK" in one_answer(connection)
        connection.sendall(head)
        for _ in range(50):
            connection.sendall(b"1\r\nx\r\n" * 100)
        connection.sendall(b"0\r\n\r\n")
        assert b"200 OK" in one_answer(connection)
    assert app.bodies == [b"x" * 5000] * 2


def test_a_large_body_is_no_large_head(serve: Serve) -> None:
    """A body far over the limit of heads passes, whether it comes with the head or in chunks."""
    app = Recorder()
    body = b"b" * 300_000
    with serve(app, PATIENT).connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert b"200 OK" in one_answer(connection)
        connection.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"7530\r\n" + body[:30_000] + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert b"200 OK" in one_answer(connection)
    assert app.bodies == [body, body]


def test_trailers_are_neither_headers_nor_endless(serve: Serve) -> None:
    """Fields after a chunked body never reach the application, and more of them than a head may have are refused."""
    app = Recorder()
    running = serve(app, QUICK)
    start = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    with running.connect() as connection:
        connection.sendall(start + b"Authorization: Bearer late\r\n\r\n")
        assert b"200 OK" in one_answer(connection)
        assert all(name != b"authorization" for name, _ in app.scopes[0]["headers"])
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(start)
        assert pour(connection, b"X: y\r\n" * 1000, 2000) < 12_000_000


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    """Many small heads in one piece, together longer than one may be, are many requests."""
    app = Recorder()
    count = 200
    with serve(app, QUICK).connect() as connection:
        connection.sendall((HEAD + b"\r\n") * count)
        received = b""
        while received.count(b"\r\n\r\nok") < count:
            piece = connection.recv(65536)
            assert piece
            received += piece
    assert len(app.scopes) == count


# Readers that stop


def test_a_reader_that_stops_is_dropped(serve: Serve) -> None:
    """A client that takes nothing of an endless answer is disconnected, and little was kept for it."""
    app = Recorder()
    running = serve(app, QUICK)
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(HEAD.replace(b"/", b"/endless", 1) + b"\r\n")
        until(app.disconnected.is_set, "the application to be told")
        until(lambda: running.connections == 0, "the connection to be dropped")
        # What the kernel's buffers take, and one piece more.
        assert app.chunks * 64 * 1024 < 32 * 1024 * 1024


class SlowTransport:
    """A transport whose client takes `rate` bytes between two looks."""

    def __init__(self, unsent: int, rate: int) -> None:
        self.unsent = unsent
        self.rate = rate
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        size, self.unsent = self.unsent, max(0, self.unsent - self.rate)
        return size

    def abort(self) -> None:
        self.aborted = True

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Looks:
    """A loop whose timers are due when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, _delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.due.append(callback)
        return cast(asyncio.TimerHandle, self)

    def cancel(self) -> None:
        self.due.clear()

    def time(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize(("rate", "dropped"), [(64 * 1024, False), (1000, True), (0, True)])
def test_a_slow_reader_is_dropped_only_when_it_hardly_reads(rate: int, dropped: bool) -> None:
    """Taking 64 KiB in a send timeout is enough to be waited for; a few bytes are not."""
    config = uvicorn.Config(Recorder(), http=bounded_protocol(QUICK), lifespan="off", log_config=None)
    config.load()
    protocol = cast(Callable[..., HttpToolsProtocol], config.http_protocol_class)(
        config=config, server_state=uvicorn.Server(config).server_state, app_state={}, _loop=Looks()
    )
    looks, transport = cast(Looks, protocol.loop), SlowTransport(640 * 1024, rate)
    protocol.connection_made(cast(asyncio.Transport, transport))
    looks.due.clear()
    protocol.pause_writing()
    for _ in range(5):
        for callback in looks.due[:]:
            looks.due.remove(callback)
            callback()
    assert transport.aborted is dropped
    protocol.resume_writing()
    assert looks.due == []
