"""What a server writes, line by line into files of bounded size and number."""

import io
import os
from itertools import pairwise
from pathlib import Path

LONGEST_LINE = 16 * 1024
"""Bytes of a line that are kept."""


class RotatingLog:
    """The file at `path`, and the ones before it, `path.1` the newest; `files` in all, of `max_bytes` each.

    A disk that is full costs lines, which are counted, and never stops whoever writes them.
    """

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor: int | None = None
        self._size = 0
        self._lost = 0

    def write(self, lines: bytes) -> None:
        """Write whole lines."""
        try:
            if self._lost:
                self._append(b"[%d bytes of the log were lost, since they could not be written]\n" % self._lost)
                self._lost = 0
            self._append(lines)
        except OSError:
            self._lost += len(lines)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, lines: bytes) -> None:
        if self._descriptor is None:
            self._open()
        if self._size + len(lines) <= self._max_bytes:
            self._write(lines)
            return
        for line in io.BytesIO(lines):
            if self._size and self._size + len(line) > self._max_bytes:
                self._rotate()
                self._open()
            self._write(line)

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _write(self, lines: bytes) -> None:
        assert self._descriptor is not None
        view = memoryview(lines)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        self.close()
        names = log_files(self._path, self._files)
        for older, newer in pairwise(names):
            if newer.exists():
                newer.replace(older)
        if len(names) == 1:
            self._path.unlink()


def log_files(path: Path, files: int) -> list[Path]:
    """Return where the parts of a log are, the oldest first."""
    return [*(path.with_name(f"{path.name}.{number}") for number in range(files - 1, 0, -1)), path]


class Lines:
    """Cuts bytes into lines for `log`; of one that is too long, the rest is left out and counted."""

    def __init__(self, log: RotatingLog) -> None:
        self._log = log
        self._begun = bytearray()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        *ended, open_end = data.split(b"\n")
        whole = bytearray()
        for text in ended:
            self._add(text)
            whole += self._line()
        self._add(open_end)
        if whole:
            self._log.write(bytes(whole))

    def end(self) -> None:
        """Write a line that has no end."""
        if self._begun or self._left_out:
            self._log.write(self._line())

    def _add(self, text: bytes) -> None:
        room = LONGEST_LINE - len(self._begun)
        self._begun += text[:room]
        self._left_out += max(0, len(text) - room)

    def _line(self) -> bytes:
        line = bytes(self._begun)
        if self._left_out:
            line += b" [%d more bytes]" % self._left_out
        self._begun.clear()
        self._left_out = 0
        return line + b"\n"
