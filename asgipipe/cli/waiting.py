"""Something that moves on the terminal while a command waits."""

import sys
import threading
from types import TracebackType
from typing import Self

import click

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "-\\|/"
_PAUSE = 0.1
_WIDEST = 100


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
        text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
        with self._lock:
            if text == self._text or self._quiet:
                return
            self._text = text
        if not self._moves:
            click.echo(f"{text} …", err=True)
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
        turn = 0
        while not self._ended.wait(_PAUSE):
            click.echo(
                f"\r\x1b[2K{click.style(frames[turn % len(frames)], fg='cyan')} {self._text}", err=True, nl=False
            )
            turn += 1
        click.echo("\r\x1b[2K", err=True, nl=False)
