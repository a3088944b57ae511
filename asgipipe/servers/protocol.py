"""uvicorn's HTTP protocol with the bounds it lacks: on the time and size of a request head, and on readers that stop.

A head that is complete is left to the application, which refuses it as a problem when it is too large. Here is only
what the application never sees: heads, and trailers, that go on and on.

Nothing is scheduled per request, and no parser callback of the usual request is overridden. One timer per connection
looks again when its time is over, and `data_received` sees from uvicorn's own state whether a head is still incomplete.
"""

import asyncio
import http
from dataclasses import dataclass
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from asgipipe.servers.stall import Stall

# An answered request may go on for this many bytes, so that a client that is still sending can read the answer.
_UNREAD_BODY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """What a connection may take.

    `receive_timeout` seconds for a request head, from its first byte or from connecting; `send_timeout` seconds in
    which a client must read 64 KiB when that much waits for it; `max_header_size` bytes of a head that is not complete;
    `max_message_size` bytes of a WebSocket message.
    """

    receive_timeout: float = 30.0
    send_timeout: float = 30.0
    max_header_size: int = 32 * 1024
    max_message_size: int = 1024 * 1024


def bounded_protocol(limits: ProtocolLimits) -> type["BoundedProtocol"]:
    """Return the protocol class for `uvicorn.Config(http=...)` that keeps `limits`.

    When its `retiring` is set, every connection is closed after the request it answers.
    """
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits, "retiring": False})


class _Trailers(list[tuple[bytes, bytes]]):
    """Where trailer fields go: nowhere. The parser reports them like header fields, long after the head was checked."""

    def append(self, _field: tuple[bytes, bytes]) -> None:
        return


_NOWHERE = _Trailers()


class BoundedProtocol(HttpToolsProtocol):
    limits: ClassVar[ProtocolLimits]
    retiring: ClassVar[bool]

    # When the head that is being waited for began; None while a request is answered or the connection is kept alive.
    _head_since: float | None = None
    # Bytes received of that head, or since the last chunk of a body ended.
    _unparsed = 0
    _chunk_began = False
    _refusal: http.HTTPStatus | None = None
    _watch: asyncio.TimerHandle | None = None
    _stall: Stall | None = None
    _closing_seen = False

    # The life of a connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._watch = self.loop.call_later(self.limits.receive_timeout, self._look)
        self._stall = Stall(transport, self.loop, self.limits.send_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timers()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        # The WebSocket protocol takes over the connection and has pings of its own.
        self._forget_timers()
        super().handle_websocket_upgrade()

    def _forget_timers(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._stall is not None:
            self._stall.end()

    # The time of a head

    def _look(self) -> None:
        """Close the connection when a head is overdue, else look again when the next one could be."""
        allowed = self.limits.receive_timeout
        if self.transport.is_closing():
            self._finish_closing()
            wait = allowed
        elif self._head_since is None:
            wait = allowed
        else:
            wait = self._head_since + allowed - self.loop.time()
            if wait <= 0:
                self._head_overdue()
                wait = allowed
        self._watch = self.loop.call_later(max(wait, 0.001), self._look)

    def _head_overdue(self) -> None:
        if self._idle():
            self.transport.close()
        else:  # a pipelined head behind a request that is still being answered
            self.cycle.keep_alive = False
            self._head_since = None

    def _idle(self) -> bool:
        # uvicorn's annotation leaves out that there is no cycle before the first request.
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _finish_closing(self) -> None:
        # A peer that never reads keeps a closing connection open until its last bytes are taken.
        if self._closing_seen:
            self.transport.abort()
        self._closing_seen = True

    # The size of a head

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        body = len(before.body) if self.headers is _NOWHERE else 0
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before:
            self._unparsed = 0
            self._head_since = None
            if self.retiring:
                cycle.keep_alive = False
        # uvicorn makes a scope when a head begins, and the cycle of that scope when it is complete.
        if cycle is None or cycle.scope is not self.scope:  # type: ignore[redundant-expr]  # none before the first head
            self._head_goes_on(len(data))
        elif self.headers is _NOWHERE:
            self._chunks_go_on(cycle, len(data) - (len(cycle.body) - body))
        elif cycle.response_complete:
            # Bytes that belong to no request, or to one that is answered: they end the keep-alive time too.
            self._head_since = self._head_since or self.loop.time()

    def _head_goes_on(self, received: int) -> None:
        if self._watch is None:  # the connection was handed to the WebSocket protocol
            return
        self._head_since = self._head_since or self.loop.time()
        self._unparsed += received
        if self._unparsed > self.limits.max_header_size:
            self._refuse()

    def _chunks_go_on(self, cycle: RequestResponseCycle, around: int) -> None:
        """Bound what may follow a chunked body, for the parser keeps trailers in memory."""
        if cycle.response_complete:
            self._head_since = self._head_since or self.loop.time()
        self._unparsed = 0 if self._chunk_began else self._unparsed + around
        self._chunk_began = False
        if self._unparsed > (_UNREAD_BODY if cycle.response_complete else self.limits.max_header_size):
            self._refuse()

    def on_chunk_header(self) -> None:
        """Note that a chunk begins; what the parser reports as a header from here on is none."""
        self.headers = _NOWHERE
        self._chunk_began = True

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self._refusal = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be served in plain text, and close; uvicorn calls it for whatever its parser refuses."""
        status, self._refusal = self._refusal, None
        if not self._idle() and self.cycle.response_started:
            self.transport.close()  # a second answer in the middle of the first would be taken for its body
        elif status is None:
            super().send_400_response(msg)
        else:
            self.transport.write(self._plain_answer(status))
            self.transport.close()

    def _plain_answer(self, status: http.HTTPStatus) -> bytes:
        text = f"{status.phrase}\n".encode()
        head = [STATUS_LINE[status], *(b"%s: %s\r\n" % field for field in self.server_state.default_headers)]
        head.append(b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(text))
        return b"".join([*head, b"connection: close\r\n\r\n", text])

    # Readers that stop

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is not None:
            self._stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.end()
