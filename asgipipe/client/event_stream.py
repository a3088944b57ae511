"""Reading Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 64 * 1024 * 1024
"""Bytes of one event; the last one of a job holds its outputs."""

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLongError(Exception):
    """An event of more than LONGEST bytes: what sends that is no event stream of ours."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event; `last_event_id` is also that of an earlier one, as the standard has it."""

    data: bytes
    event: str
    last_event_id: str


class EventStreamParser:
    """Takes a stream in pieces of any size and gives the events that have ended; one that has not is never given.

    Lines end with LF, CRLF or CR and nothing else: JSON may hold U+2028 and its like, at which `str.splitlines` and
    httpx's `iter_lines` would break it.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._held: list[bytes] = []  # of a line that has not ended
        self._size = 0  # of what is held of the event
        self._after_cr = False
        self._begun = False
        self._data: list[bytes] = []
        self._event = b""
        self._last_event_id = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield the events that end in `piece`. Raises EventTooLongError."""
        for line in self._lines(piece):
            if line:
                self._field(line)
            elif (message := self._dispatch()) is not None:
                yield message

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        if self._after_cr and piece:
            piece, self._after_cr = piece.removeprefix(b"\n"), False
        # A CR at the end may be half a CRLF; the line has ended in either case.
        self._after_cr = piece.endswith(b"\r")
        *ended, rest = _END_OF_LINE.split(piece)
        for line in ended:
            self._hold(line)
            whole = b"".join(self._held)
            self._held = []
            if not self._begun:
                self._begun, whole = True, whole.removeprefix(_BOM)
            yield whole
        self._hold(rest)

    def _hold(self, part: bytes) -> None:
        if part:
            self._held.append(part)
            self._size += len(part)
            if self._size > self._longest:
                raise EventTooLongError

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                return  # it counts until the event has ended
            case b"event":
                self._event = value
            case b"id" if b"\0" not in value:
                self._last_event_id = value
        self._size -= len(line)

    def _dispatch(self) -> Message | None:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], b"", 0
        if not data:
            return None
        last_event_id = self._last_event_id.decode("utf-8", "replace")
        return Message(b"\n".join(data), event.decode("utf-8", "replace") or "message", last_event_id)
