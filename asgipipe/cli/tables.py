"""Tables for a terminal."""

from collections.abc import Sequence
from datetime import datetime

from asgipipe.settings.fields import printable

WIDEST = 60
"""Characters of a cell; `--json` shows all of it."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, widest: int = WIDEST) -> list[str]:
    """Return the lines of a table; the last column is as wide as it is, cells before it are cut at `widest`."""
    cells = [tuple(head), *(tuple(cell(text, widest) for text in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    return [
        "  ".join([*(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in cells
    ]


def cell(text: str, widest: int = WIDEST) -> str:
    """Return a text on one line, without control characters."""
    shown = printable(text)
    return shown if len(shown) <= widest else f"{shown[: widest - 1]}…"


def local_time(timestamp: str | None, *, zone: bool = False) -> str:
    """Return an RFC 3339 time to the second, in the time zone of this machine, and which one that is."""
    if timestamp is None:
        return "-"
    return datetime.fromisoformat(timestamp).astimezone().strftime(f"%Y-%m-%d %H:%M:%S{' %Z' if zone else ''}")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.2f} s"
