"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html): frames, and how they are sent.

sse-starlette 3.7 was looked at: it takes four tasks for a stream, encodes each event for each follower, cuts streams
off at SIGTERM and replaces a method of uvicorn's on import.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from asgipipe.http.types import Send
from asgipipe.jobs.records import Event

CONTENT_TYPE = (b"content-type", b"text/event-stream")
HEADERS = (
    CONTENT_TYPE,
    # A proxy that compresses would hold events back until its buffer is full (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)

RETRY = b"retry: 1000\n\n"
"""Milliseconds after which an EventSource that lost its connection comes back."""

_KEPT = 1024 * 1024
_PIECE = 64 * 1024
"""Bytes that are sent at once: a server takes whatever it is given, and keeps what its client does not read."""
_EVENT_ID = re.compile(rb"[0-9]{1,18}").fullmatch


def last_event_id(headers: Mapping[bytes, bytes]) -> int:
    """Return the number of the last event that a client has seen; 0 for none, and for what is no number of ours."""
    given = headers.get(b"last-event-id", b"")
    return int(given) if _EVENT_ID(given) else 0


def frame(event: Event) -> bytes:
    data = event.as_json()
    if b"\n" in data or b"\r" in data:  # between tokens of JSON, for strings have them escaped
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.type.encode(), data)


def comment(text: str) -> bytes:
    return b": %b\n\n" % text.encode()


_HEARTBEAT = comment("still here")


class Frames:
    """Makes frames; those made last are kept, because the followers of one job all get the same events."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._size = 0
        self._made: OrderedDict[int, tuple[Event, bytes]] = OrderedDict()

    def of(self, events: Iterable[Event]) -> Iterator[bytes]:
        """Yield the frames of `events`, several together unless they are large."""
        piece: list[bytes] = []
        size = 0
        for event in events:
            made = self._of(event)
            if piece and size + len(made) > _PIECE:
                yield b"".join(piece)
                piece, size = [], 0
            piece.append(made)
            size += len(made)
        if piece:
            yield b"".join(piece)

    def _of(self, event: Event) -> bytes:
        # The entry holds the event, so its identity is that of no other one.
        found = self._made.get(id(event))
        if found is not None:
            return found[1]
        made = frame(event)
        self._made[id(event)] = event, made
        self._size += len(made)
        while self._size > self._kept:
            _, (_, old) = self._made.popitem(last=False)
            self._size -= len(old)
        return made


class EventStream:
    """The answer to one follower, with a comment after `heartbeat` seconds of silence; leave it to end the answer."""

    def __init__(self, send: Send, heartbeat: float) -> None:
        self._send = send
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._last = self._loop.time()
        # A timer that looks back costs nothing per event; one that is set anew for each costs 4 µs.
        self._timer = self._loop.call_at(self._last + heartbeat, self._look)
        self._beat: asyncio.Task[None] | None = None

    async def write(self, piece: bytes) -> None:
        async with self._turn:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._last = self._loop.time()

    async def end(self) -> None:
        self.close()
        async with self._turn:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Send no comments any more."""
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        # Whoever does not take an event would not take a comment either.
        if now - self._last >= self._heartbeat and not self._turn.locked():
            self._last = now
            self._beat = self._loop.create_task(self.write(_HEARTBEAT))
            self._beat.add_done_callback(_seen)
        self._timer = self._loop.call_at(max(self._last, now - self._heartbeat / 2) + self._heartbeat, self._look)


def _seen(beat: "asyncio.Task[None]") -> None:
    """A connection that is gone is noticed by whoever sends the events."""
    if not beat.cancelled():
        beat.exception()
