"""Reading the body of a request, bounded in size and time, and checking that it may be JSON."""

import asyncio
import re
from collections.abc import Awaitable, Mapping
from itertools import islice

from pydantic_core import from_json

from asgipipe.errors import BadRequestError, BodyTooLargeError, RequestTimeoutError, UnsupportedMediaTypeError
from asgipipe.http.deadline import resumed
from asgipipe.http.types import Message, Receive
from asgipipe.http.validation import MAX_ENTRIES, entry, refused
from asgipipe.pipelines.contract import non_finite

# A float overflows from 1e309 on: by its exponent, or by as many digits.
_LARGE_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3}")
_LONG_NUMBER = b"0" * 300
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")


class ClientDisconnected(Exception):  # noqa: N818  # an event, not an error: nobody is left to answer
    """The client went away while its body was read; an endpoint ends quietly on it."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, limit: int, timeout: float) -> bytes:
    """Return the whole body; `limit` is in bytes, `timeout` in seconds from now until its last byte.

    Raises BadRequestError for a content-length that is no number, BodyTooLargeError (before anything is read where the
    length is declared), RequestTimeoutError, and ClientDisconnected.

    A body that is already there, as almost every one is, costs no timer.
    """
    length = headers.get(b"content-length")
    if length is not None:
        check_length(length, limit)
    steps = receive().__await__()
    try:
        pending = next(steps)
    except StopIteration as done:
        message: Message = done.value
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLargeError(limit) from None
            return body
        rest = _collect(receive, limit, message)
    else:
        rest = _collect(receive, limit, resumed(steps, pending))
    return await _in_time(timeout, rest)


async def _in_time(timeout: float, body: Awaitable[bytes]) -> bytes:
    try:
        async with asyncio.timeout(timeout):
            return await body
    except TimeoutError:
        raise RequestTimeoutError from None


def require_json(headers: Mapping[bytes, bytes], body: bytes) -> None:
    """Raise UnsupportedMediaTypeError unless the content type says JSON in UTF-8; an empty body needs no type."""
    if not body:
        return
    content_type = headers.get(b"content-type", b"")
    if content_type == b"application/json":
        return
    media_type, *parameters = content_type.lower().split(b";")
    media_type = media_type.strip(b" \t")
    if media_type != b"application/json" and not (media_type.endswith(b"+json") and b"/" in media_type):
        raise UnsupportedMediaTypeError
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip(b' \t"') not in (b"utf-8", b"utf8"):
            raise UnsupportedMediaTypeError("JSON is UTF-8 (RFC 8259); send the body in no other charset.")


def require_finite(body: bytes, loc: tuple[str | int, ...] = ("body",)) -> bool:
    """Refuse a JSON body that holds NaN or Infinity (400), or numbers that become infinite when they are read (422).

    RFC 8259 has neither, but pydantic lets both through into every model that does not say otherwise. `loc` opens the
    places of a 422. A body that can hold none of it is not parsed for this. Returns True when the body may hold an
    integer that is infinite as a float: whether it is read as one, `require_finite_value` can tell afterwards.
    """
    constants = b"NaN" in body or b"Infinity" in body
    long = _may_hold_long_number(body)
    if constants or long or _LARGE_EXPONENT.search(body):
        try:
            value = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise BadRequestError(f"The body is not valid JSON: {error}.") from None
        require_finite_value(value, loc)
    return long


def require_finite_value(value: object, loc: tuple[str | int, ...] = ("body",)) -> None:
    """Refuse a value that holds NaN or an infinity (422)."""
    places = islice(non_finite(value), MAX_ENTRIES)
    errors = [entry((*loc, *place), "Input should be a finite number", "finite_number") for place in places]
    if errors:
        raise refused(errors)


def check_length(length: bytes, limit: int) -> None:
    """Refuse a content-length that is no number (400) or beyond `limit` bytes (413)."""
    if not length.isdigit():
        raise BadRequestError("The Content-Length is not a number.")
    if len(length) > 18 or int(length) > limit:
        raise BodyTooLargeError(limit)


async def _collect(receive: Receive, limit: int, first: Message | Awaitable[Message]) -> bytes:
    message = first if isinstance(first, Mapping) else await first
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientDisconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()


def _may_hold_long_number(body: bytes) -> bool:
    return len(body) >= len(_LONG_NUMBER) and _LONG_NUMBER in body.translate(_DIGITS_TO_ZERO)
