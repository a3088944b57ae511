"""Reading Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import Iterable, Iterator

LONGEST = 64 * 1024 * 1024
"""Bytes of one line; the last event of a job holds its outputs."""


class LineTooLongError(Exception):
    """A line of more than LONGEST bytes: what sends that is no event stream of ours."""


def messages(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of each event, and nothing (b"") for each comment, which says that the other side lives."""
    data: list[bytes] = []
    for line in lines(chunks):
        if line.startswith(b":"):
            yield b""
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


def lines(chunks: Iterable[bytes], longest: int = LONGEST) -> Iterator[bytes]:
    """Yield the lines that have ended, each without its end. Raises LineTooLongError.

    Only LF and CRLF end a line: JSON may hold U+2028 and its like, at which httpx's `iter_lines` would break it.
    """
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join([*held, line]).removesuffix(b"\r")
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > longest:
            raise LineTooLongError
