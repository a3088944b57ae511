import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.reliability.memory import MEBIBYTE, Peak, needs_peak, resident
from tests.servers.command import Command, until

POST = b"POST /invoke HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
BODY = b'{"parameters": {"text": "x"}}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """One byte at a time, more often than anything but a deadline for the whole would notice."""
    for value in data * 100:
        yield bytes([value])
        time.sleep(0.02)


SENDERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "half a head": lambda: iter([POST]),
    "a head byte by byte": lambda: byte_by_byte(POST + b"X-Long: "),
    "half a body": lambda: iter([POST + LENGTH, BODY[:10]]),
    "half a chunk": lambda: iter([POST, b"Transfer-Encoding: chunked\r\n\r\n", b"ff\r\n", BODY]),
    "a body byte by byte": lambda: chain([POST + b"Content-Length: 100000\r\n\r\n"], byte_by_byte(BODY)),
    "no end of chunks": lambda: iter([POST, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"]),
}


@pytest.mark.parametrize("kind", SENDERS)
def test_slow_senders_are_dropped_and_others_served(serve: Serve, kind: str) -> None:
    """Row 6: whoever does not finish a head or a body in `receive_timeout` is closed, and nobody else notices."""
    limits = ("--receive-timeout", 0.4, "--max-concurrency", 4, "--max-queue", 0)
    with serve("load.py:brief", *limits) as running, ExitStack() as stack:
        port = running.port
        slow = [stack.enter_context(raw.Connection(port)) for _ in range(3)]
        threads = [threading.Thread(target=each.pour, args=(SENDERS[kind](),)) for each in slow]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert raw.ask(port, raw.invoke({"text": "y"})).status == 200
        for each in slow:
            said = each.rest()
            if "head" in kind or said == b"":  # a client that goes on sending may see the close before the answer
                assert said == b""
            else:
                assert said.startswith(b"HTTP/1.1 408 ")
        places = [stack.enter_context(raw.Connection(port)) for _ in range(4)]
        for each in places:
            each.send(raw.invoke({"text": "z"}))
        assert [each.answer().status for each in places] == [200] * 4


def in_flight(running: Command) -> int:
    return int(raw.ask(running.port, raw.request("GET", "/metrics")).json()["in_flight"])


SIZE = 64 * MEBIBYTE
LITTLE = 4096


@needs_peak
@pytest.mark.parametrize("path", ["/stream", "/stream-async"])
def test_a_reader_that_stops_is_dropped_and_its_place_freed(serve: Serve, path: str) -> None:
    """Row 7: a stream that nobody takes is held back, at most ten megabytes are kept, the place is freed."""
    limits = ("--send-timeout", 0.4, "--max-concurrency", 1, "--max-queue", 0)
    with serve("streams.py:streams", *limits) as running:
        port = running.port
        assert raw.ask(port, raw.invoke({"size": 1})).status == 200
        peak = Peak(running.process.pid)
        with raw.Connection(port, receive_buffer=LITTLE) as reader:
            reader.send(raw.request("GET", path))
            until(lambda: raw.ask(port, raw.invoke({"size": 1})).status == 429, "the place to be taken")
            until(lambda: raw.ask(port, raw.invoke({"size": 1})).status == 200, "the place to be free")
            assert peak.growth() < 10 * MEBIBYTE
            running.until_says("does not read was dropped")


def test_an_answer_that_nobody_takes_is_given_up(serve: Serve) -> None:
    """Row 7: a run's large answer is kept until `send_timeout`, then client and memory are gone."""
    limits = ("--send-timeout", 0.4, "--max-concurrency", 2, "--max-queue", 0)
    with serve("streams.py:streams", *limits) as running:
        port, pid = running.port, running.process.pid
        assert raw.ask(port, raw.invoke({"size": SIZE})).status == 200
        before = resident(pid)
        with raw.Connection(port, receive_buffer=LITTLE) as reader:
            reader.send(raw.invoke({"size": SIZE}))
            reader.socket.recv(1)
            assert raw.ask(port, raw.invoke({"size": 1})).status == 200
            running.until_says("does not read was dropped")
            until(lambda: resident(pid) < before + 10 * MEBIBYTE, "the memory to be given back")
            assert in_flight(running) == 0
            with pytest.raises(EOFError):
                reader.answer()


def test_readers_that_stop_hold_their_places(serve: Serve) -> None:
    """Row 7: answers that nobody takes are as many as there are places, so many such clients cannot fill the memory."""
    places = 2
    limits = ("--send-timeout", 30, "--max-concurrency", places, "--max-queue", 0)
    with serve("streams.py:streams", *limits) as running, ExitStack() as stack:
        port, pid = running.port, running.process.pid
        before = resident(pid)
        statuses = []
        for _ in range(10 * places):
            reader = stack.enter_context(raw.Connection(port, receive_buffer=LITTLE))
            reader.send(raw.invoke({"size": SIZE // 4}))
            statuses.append(int(reader.socket.recv(12)[9:12]))
        assert statuses == [200] * places + [429] * (9 * places)
        assert resident(pid) < before + 5 * places * SIZE // 4
