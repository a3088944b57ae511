"""Connections that fail in every place, over real sockets, with both clients."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import pytest

from asgipipe.client import (
    AnswerTimeoutError,
    AsyncDeploymentClient,
    DeploymentClient,
    ForeignAnswerError,
    Invocation,
    UnreachableError,
)
from asgipipe.testing.client import soon
from tests.client.scripted import AT_ONCE, Act, after, answer, envelope, header, reset, scripted, until_left
from tests.conftest import PATIENCE

DONE = answer(200, envelope(a=1))

Invoke = Callable[..., "Invocation[object]"]


def invoke(url: str, **options: object) -> "Invocation[object]":
    with DeploymentClient(url, **{"retries": AT_ONCE, **options}) as client:  # type: ignore[call-overload]
        found: Invocation[object] = client.invoke()
    return found


def await_invoke(url: str, **options: object) -> "Invocation[object]":
    async def main() -> "Invocation[object]":
        async with AsyncDeploymentClient(url, **{"retries": AT_ONCE, **options}) as client:  # type: ignore[call-overload]
            found: Invocation[object] = await client.invoke()
        return found

    return asyncio.run(main())


both = pytest.mark.parametrize("invoke", [pytest.param(invoke, id="sync"), pytest.param(await_invoke, id="async")])


@both
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(reset, id="reset"),
        pytest.param(b"", id="closed"),
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(after(DONE[:60], reset), id="reset in the head"),
        pytest.param(after(DONE[:-9], reset), id="reset in the body"),
        pytest.param(DONE[:-9], id="closed in the body"),
        pytest.param(answer(502, b"<p>Bad gateway</p>", content_type="text/html"), id="bad gateway"),
        pytest.param(answer(504, b"<p>Too late</p>", content_type="text/html"), id="gateway time-out"),
    ],
)
def test_a_fault_is_mended_by_another_attempt(fault: Act, invoke: Invoke) -> None:
    """Wherever an attempt breaks off, the next one with the same key brings the answer."""
    with scripted(fault, DONE) as server:
        assert invoke(server.url).outputs == {"a": 1}
    first, second = [header(request, "idempotency-key") for request in server.asked]
    assert first == second is not None


@both
def test_silence(invoke: Invoke) -> None:
    """A server that says nothing is left when the time is over."""
    with scripted(until_left) as server, pytest.raises(AnswerTimeoutError, match=r"within 0\.2 s"):
        invoke(server.url, timeout=0.2)


@both
def test_an_answer_that_trickles(invoke: Invoke) -> None:
    """An answer that comes in drops does not outlast the time of the call."""

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b" ")
                time.sleep(0.02)
        except OSError:  # the client left
            return

    with scripted(trickle) as server:
        began = time.monotonic()
        with pytest.raises(AnswerTimeoutError):
            invoke(server.url, timeout=0.3)
        assert time.monotonic() - began < soon(10)


@both
def test_an_answer_that_does_not_end(invoke: Invoke) -> None:
    """An answer is read no further than its bound, whatever it says of its length."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        try:
            while True:
                connection.sendall(b" " * 65536)
        except OSError:  # the client left
            return

    with scripted(flood) as server, pytest.raises(ForeignAnswerError, match="more than 100000 bytes"):
        invoke(server.url, max_answer=100_000)


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_before_this_machine(invoke: Invoke, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment of this machine is called without the proxy of the environment, which would see the key."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with scripted(DONE) as server:
        assert invoke(server.url.replace("127.0.0.1", host), retries=0).outputs == {"a": 1}


@both
def test_nobody_there(invoke: Invoke) -> None:
    """Where nobody listens, the error names the address and the reason."""
    with pytest.raises(UnreachableError, match=r"http://127.0.0.1:9/invoke cannot be reached: "):
        invoke("http://127.0.0.1:9", retries=0)


def test_cancelling_leaves_nothing_open() -> None:
    """A task that is cancelled while it waits gives its connection up."""
    asked, left = threading.Event(), list[bytes]()

    def watch(connection: socket.socket) -> None:
        asked.set()
        left.append(connection.recv(1))

    async def main(url: str) -> None:
        async with AsyncDeploymentClient(url) as client:
            waiting = asyncio.ensure_future(client.invoke())
            await asyncio.to_thread(asked.wait, PATIENCE)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    with scripted(watch) as server:
        asyncio.run(main(server.url))
    assert left == [b""]
