"""uvicorn's request and response, with header lines that are made once.

uvicorn checks the name and value of every header of every answer with two regular expressions and joins them anew: about
a microsecond for each, and our answers carry a dozen that never change. Here a line that was checked once is looked up.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from asgiref.typing import ASGISendEvent

Header = tuple[bytes, bytes]

_MAX_LINES = 1024
_MAX_LINE = 1024
# They decide how the body is framed and whether the connection lives on, so they are looked at every time.
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_CHANGING = frozenset((b"date", b"x-request-id"))

_lines: dict[Header, bytes] = {}
"""Checked header lines of this process, `_MAX_LINES` at most; a pair of bytes always gives the same line."""


class Cycle(RequestResponseCycle):
    async def send(self, message: "ASGISendEvent") -> None:
        if message["type"] != "http.response.start" or self.response_started or self.access_log:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        content = [STATUS_LINE[status]]
        self._write_lines(content, self.default_headers)
        self._write_lines(content, message.get("headers", ()))
        self._write_framing(content, status)
        content.append(b"\r\n")
        self.transport.write(b"".join(content))

    def _write_lines(self, content: list[bytes], headers: Iterable[Header]) -> None:
        for header in headers:
            line = _lines.get(header) if type(header) is tuple else None
            content.append(line or self._new_line(*header))

    def _new_line(self, name: bytes, value: bytes) -> bytes:
        if HEADER_RE.search(name):
            raise RuntimeError("Invalid HTTP header name.")
        if HEADER_VALUE_RE.search(value):
            raise RuntimeError("Invalid HTTP header value.")
        lower = name.lower()
        line = b"%b: %b\r\n" % (lower, value)
        if lower in _FRAMING:
            self._note_framing(lower, value)
        elif lower not in _CHANGING and len(_lines) < _MAX_LINES and len(line) <= _MAX_LINE:
            _lines[name, value] = line
        return line

    def _note_framing(self, name: bytes, value: bytes) -> None:
        if name == b"content-length" and self.chunked_encoding is None:
            self.expected_content_length = int(value)
            self.chunked_encoding = False
        elif name == b"transfer-encoding" and value.lower() == b"chunked":
            self.expected_content_length = 0
            self.chunked_encoding = True
        elif name == b"connection" and b"close" in (token.strip().lower() for token in value.split(b",")):
            self.keep_alive = False
            self._said_close = True

    _said_close = False

    def _write_framing(self, content: list[bytes], status: int) -> None:
        if not self.keep_alive and not self._said_close:
            content.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
