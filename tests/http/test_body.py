import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.errors import (
    BadRequestError,
    BodyTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
    ValidationError,
)
from asgipipe.http.body import ClientDisconnected, read_body, require_finite, require_json
from asgipipe.http.types import Message


def read(
    *chunks: bytes, headers: Mapping[bytes, bytes] | None = None, limit: int = 100, end: Message | None = None
) -> bytes:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if end is None:
        messages[-1]["more_body"] = False
    else:
        messages.append(end)

    async def receive() -> Message:
        return messages.pop(0)

    return asyncio.run(read_body(receive, headers or {}, limit=limit, timeout=30))


def test_one_message_is_not_copied() -> None:
    """A body that came in one message is that very object."""
    body = b"x" * 50
    assert read(body) is body


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_chunks_are_joined(chunks: list[bytes]) -> None:
    """A body is the concatenation of its messages, empty ones included."""
    assert read(*chunks, limit=200) == b"".join(chunks)


def test_members_that_asgi_leaves_out_have_defaults() -> None:
    """A message without `body` and `more_body` is an empty last one."""
    assert read(end={"type": "http.request"}) == b""


@pytest.mark.parametrize("length", [b"101", b"1" * 30, b"1" * 5000])
def test_a_declared_length_beyond_the_limit_is_refused_unread(length: bytes) -> None:
    """Too large a content-length is refused before anything is received."""

    async def receive() -> Message:
        raise AssertionError("was read")

    with pytest.raises(BodyTooLargeError):
        asyncio.run(read_body(receive, {b"content-length": length}, limit=100, timeout=30))


@pytest.mark.parametrize("length", [b"-1", b"1.5", b"", b"5, 5", b"+5", "٥".encode()])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    """A content-length that is not made of digits is a bad request."""
    with pytest.raises(BadRequestError):
        read(b"x", headers={b"content-length": length})


def test_a_lying_length_is_counted() -> None:
    """A body larger than its declared length is still held to the limit, whether in one message or in many."""
    with pytest.raises(BodyTooLargeError):
        read(b"x" * 101, headers={b"content-length": b"1"})
    with pytest.raises(BodyTooLargeError):
        read(*[b"x" * 10] * 11)
    assert len(read(*[b"x" * 10] * 10)) == 100


def test_a_disconnect_while_reading() -> None:
    """A client that goes away in the middle of its body raises ClientDisconnected."""
    with pytest.raises(ClientDisconnected):
        read(b"x", end={"type": "http.disconnect"})


@pytest.mark.parametrize("first", [[], [{"type": "http.request", "body": b"x", "more_body": True}]])
def test_a_slow_body_is_refused(first: list[Message]) -> None:
    """A body of which nothing, or not all, arrives within the timeout is a 408."""
    messages = list(first)

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(RequestTimeoutError):
        asyncio.run(read_body(receive, {}, limit=100, timeout=0.01))


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b'Application/JSON ;charset="UTF-8"; v=1',
        b"application/problem+json",
        b"application/json;charset=utf8",
    ],
)
def test_json_types_are_taken(content_type: bytes) -> None:
    """JSON and its `+json` relatives pass, with UTF-8 named or not."""
    require_json({b"content-type": content_type}, b"{}")


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain",
        b"",
        b"application/jsonp",
        b"application/x-www-form-urlencoded",
        b"application/json; charset=utf-16",
        b"+json",
        b"\xff",
    ],
)
def test_other_types_are_refused(content_type: bytes) -> None:
    """Anything else is a 415."""
    with pytest.raises(UnsupportedMediaTypeError):
        require_json({b"content-type": content_type}, b"{}")


def test_a_body_needs_a_type_and_no_body_none() -> None:
    """A body without a content type is refused; an empty one needs none, and may have any."""
    with pytest.raises(UnsupportedMediaTypeError):
        require_json({}, b"{}")
    require_json({}, b"")
    require_json({b"content-type": b"text/plain"}, b"")


@pytest.mark.parametrize("body", [b"NaN", b'{"x": [Infinity]}', b"[-Infinity]"])
def test_constants_are_not_json(body: bytes) -> None:
    """NaN and Infinity are malformed JSON."""
    with pytest.raises(BadRequestError):
        require_finite(body)


@pytest.mark.parametrize("body", [b'[0, {"x": 1e400}]', b'[0, {"x": -1E+999}]', b'[0, {"x": ' + b"9" * 400 + b".0}]"])
def test_overflowing_numbers_are_refused_with_their_place(body: bytes) -> None:
    """A number that would become infinite is a 422 that says where it stands."""
    with pytest.raises(ValidationError) as refused:
        require_finite(body)
    assert refused.value.errors is not None
    assert [error["loc"] for error in refused.value.errors] == [["body", 1, "x"]]


@pytest.mark.parametrize("body", [b"", b'{"NaN": "Infinity"}', b'["1e400", 1e100, 1e-400]', b"[" + b"9" * 400 + b"]"])
def test_what_only_looks_infinite_passes(body: bytes) -> None:
    """The words as text, small numbers and long integers are fine."""
    require_finite(body)
