"""Reading a log that is being written and rotated."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from asgipipe.deployers.keeper.output import log_files

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two looks at a log that grows: short while it does."""
_MOST_FILES = 100

_Parts = list[tuple[Path, tuple[int, int]]]
"""The files of a log, the oldest first, each with what the system knows it by."""


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log."""
    return list(follow(log, tail=count, ended=lambda: True))


def follow(log: Path, *, tail: int | None, ended: Callable[[], bool]) -> Iterator[str]:
    """Yield the last `tail` lines, or all that are kept, and those to come until `ended` says that none will."""
    with closing(_Reader(log)) as reader:
        last = ended()  # asked before reading: what was written before the end is read after it
        yield from reader.lines() if tail is None else deque(reader.lines(), maxlen=tail)
        pause = _SHORTEST_PAUSE
        while not last:
            time.sleep(pause)
            last, some = ended(), False
            for line in reader.lines():
                some = True
                yield line
            pause = _SHORTEST_PAUSE if some else min(2 * pause, _LONGEST_PAUSE)


class _Reader:
    """Reads a log from its first line on, over files that are renamed meanwhile."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: BinaryIO | None = None

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that were written since the last time; a keeper writes no others."""
        while True:
            following = self._following()  # asked before reading: where there is one, nothing more comes into this file
            if self._file is not None:
                for line in self._file:
                    yield line.rstrip(b"\n").decode(errors="replace")
            if following is None:
                return
            self._open(*following)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path, identity: tuple[int, int]) -> None:
        """Go on with a file, unless it was renamed this very moment: then it is looked for again."""
        with suppress(FileNotFoundError):
            file = path.open("rb")
            if _identity(os.fstat(file.fileno())) == identity:
                self.close()
                self._file = file
            else:
                file.close()

    def _following(self) -> tuple[Path, tuple[int, int]] | None:
        """Return the file after the one that is open, the oldest when that is gone; None when it is the newest."""
        parts = _parts(self._log)
        if self._file is not None:
            own = _identity(os.fstat(self._file.fileno()))
            known = [identity for _, identity in parts]
            if own in known:
                parts = parts[known.index(own) + 1 :]
        return parts[0] if parts else None


def _parts(log: Path) -> _Parts:
    """Return the files of a log at one moment: when nothing was renamed between two looks."""
    before, after = _look(log), _look(log)
    while before != after:
        before, after = after, _look(log)
    return after


def _look(log: Path) -> _Parts:
    found: _Parts = []
    for file in log_files(log, _MOST_FILES):
        try:
            found.append((file, _identity(file.stat())))
        except FileNotFoundError:
            continue
    return found


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
