"""Something that moves on the terminal while a command waits."""

import itertools
import os
import sys
import threading
from types import TracebackType
from typing import Self

import click

from asgipipe.cli.tables import cell

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "-\\|/"
_PAUSE = 0.1
_WIDEST = 200
"""Characters of a step, where there is no terminal."""
_ERASED = "\r\x1b[2K"


class Waiting:
    """Says on stderr what is being done: on a terminal in one line that moves, elsewhere in a line for each step.

    It is said in a line each that is told by calling it; nothing is said when `quiet`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._text = ""
        self._quiet = quiet
        self._moves = not quiet and sys.stderr.isatty()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            if text == self._text or self._quiet:
                return
            self._text = text
        if not self._moves:
            click.echo(f"{cell(text, _WIDEST)} …", err=True)
        elif self._thread is None:
            self._thread = threading.Thread(target=self._move, name="asgipipe-waiting", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _move(self) -> None:
        frames = _FRAMES if "utf" in (sys.stderr.encoding or "").lower() else _PLAIN_FRAMES
        for frame in itertools.cycle(frames):
            if self._ended.wait(_PAUSE):
                break
            _draw(f"{frame} {self._text}")
        _draw("")


def _draw(text: str) -> None:
    """Put a text in the place of the line; what is wider than the terminal would begin another."""
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    # Not a color, so that NO_COLOR leaves it in.
    click.echo(f"{_ERASED}{cell(text, columns - 1)}", err=True, nl=False, color=True)
