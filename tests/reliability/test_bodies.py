from collections.abc import Callable, Iterator

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.reliability.memory import MEBIBYTE, Peak, needs_peak
from tests.servers.command import Command

LIMIT = 16 * MEBIBYTE
POST = ("POST /invoke HTTP/1.1", "Host: test", "Content-Type: application/json")


def head(*fields: str) -> bytes:
    return "\r\n".join([*POST, *fields, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def still_answers(running: Command) -> bool:
    return raw.ask(running.port, raw.invoke({"values": [1, 2]})).status == 200


@needs_peak
@pytest.mark.parametrize("framing", [f"Content-Length: {4 * LIMIT}", "Transfer-Encoding: chunked"])
def test_a_body_over_the_limit_is_refused_in_bounded_memory(serve: Serve, framing: str) -> None:
    """Row 4: four times the allowed body, declared or in chunks, is a 413, and twice the limit is never held."""
    piece = b" " * (256 * 1024)
    chunked = framing.startswith("T")
    with serve("load.py:numbers") as running, raw.Connection(running.port) as connection:
        assert still_answers(running)
        peak = Peak(running.process.pid)
        connection.send(head(framing))
        connection.pour(chunk(piece) if chunked else piece for _ in range(4 * LIMIT // len(piece)))
        answer = connection.answer()
        assert answer.status == 413
        assert answer.is_problem()
        assert connection.rest() == b""
        assert peak.growth() < 2 * LIMIT
        assert still_answers(running)


def lying() -> Iterator[tuple[str, bytes, int]]:
    body = b'{"parameters": {}}'
    yield "shorter than the body", head("Content-Length: 5") + body, 400
    yield "not a number", head("Content-Length: five") + body, 400
    yield "negative", head("Content-Length: -1") + body, 400
    yield "signed", head("Content-Length: +18") + body, 400
    yield "two that differ", head("Content-Length: 18", "Content-Length: 5") + body, 400
    yield "beside chunks", head("Content-Length: 18", "Transfer-Encoding: chunked") + chunk(body) + b"0\r\n\r\n", 400
    yield "beyond 64 bits", head(f"Content-Length: {10**30}"), 400
    yield "beyond the limit", head(f"Content-Length: {LIMIT + 1}"), 413
    yield "of a chunk", head("Transfer-Encoding: chunked") + b"zz\r\n" + body, 400
    yield "of an endless chunk", head("Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n" + body, 400
    yield "unknown coding", head("Transfer-Encoding: gzip") + body, 400
    yield "chunked not last", head("Transfer-Encoding: chunked, gzip") + body, 400


def test_lengths_that_lie_are_refused(serve: Serve) -> None:
    """Row 4: a length that is wrong, ambiguous or no number is refused, the connection ends, and the server lives."""
    with serve("load.py:numbers") as running:
        for what, sent, status in lying():
            with raw.Connection(running.port) as connection:
                connection.send(sent)
                assert connection.answer().status == status, what
                connection.rest()
            assert still_answers(running), what


def test_a_length_longer_than_the_body_is_not_waited_for(serve: Serve) -> None:
    """Row 4: a body that ends before its declared length is a 408 when `receive_timeout` is over."""
    with serve("load.py:numbers", "--receive-timeout", 0.3) as running, raw.Connection(running.port) as connection:
        answer = connection.ask(head("Content-Length: 100") + b'{"parameters": {}}')
        assert answer.status == 408
        assert answer.is_problem()
        assert connection.rest() == b""


DEEP = 100_000


NESTED = {
    "never closed": b"[" * DEEP,
    "parameters": b'{"parameters": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a value": b'{"parameters": {"values": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "objects": b'{"parameters":' * DEEP + b"{}" + b"}" * DEEP,
    "an unknown member": b'{"surplus": ' + b"[" * DEEP + b"]" * DEEP + b"}",
}


def test_depth_is_bounded(serve: Serve) -> None:
    """Row 4: JSON that is nested a hundred thousand levels deep is a 400 wherever it stands."""
    with serve("load.py:numbers") as running:
        for where, body in NESTED.items():
            answer = raw.ask(running.port, raw.invoke(body))
            assert answer.status == 400, where
            assert answer.is_problem()
        assert still_answers(running)


def padded(start: bytes, item: bytes, end: bytes) -> bytes:
    """Return as many items as `LIMIT` has room for."""
    count = (LIMIT - len(start) - len(end)) // (len(item) + 1)
    return start + b",".join([item] * count) + end


def many_wrong_items() -> bytes:
    return padded(b'{"parameters":{"values":[', b'"x"', b"]}}")


def many_unknown_keys() -> bytes:
    return b'{"parameters":{%s}}' % b",".join(b'"k%d":1' % number for number in range(1_000_000))


def many_unknown_members() -> bytes:
    return b"{%s}" % b",".join(b'"k%d":1' % number for number in range(1_000_000))


# While pydantic validates JSON it holds a tree of 32 bytes or more for each value, and some 400 for each unknown key.
# That is a multiple of the text, valid or not; it is one body at a time, and not the 2 GB of an error for each item.
WHILE_VALIDATED = 48


@needs_peak
@pytest.mark.parametrize("make", [many_wrong_items, many_unknown_keys, many_unknown_members])
def test_what_is_wrong_a_million_times_is_refused_in_bounded_memory(serve: Serve, make: Callable[[], bytes]) -> None:
    """Row 4: a whole body of wrong items, or of unknown keys, is a short 422, and a second one costs no more memory."""
    body = make()
    with serve("load.py:numbers") as running:
        assert still_answers(running)
        peak = Peak(running.process.pid)
        for _ in range(3):
            answer = raw.ask(running.port, raw.invoke(body))
            assert answer.status == 422
            assert len(answer.body) < 64 * 1024
            assert peak.growth() < WHILE_VALIDATED * len(body)
        assert still_answers(running)
