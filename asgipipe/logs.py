"""Logging of the `asgipipe serve` command, as text or as JSON lines.

Only the command configures anything; a deployment embedded in somebody's application logs through loggers named
`asgipipe.*` and leaves the host's logging as it is.

No line is longer than 8 KiB, whatever is logged, and no line can be forged: control characters are escaped.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]

request_id_var: ContextVar[bytes | None] = ContextVar("asgipipe_request_id", default=None)

id_sources: dict[str, Callable[[], str | None]] = {
    "request_id": lambda: request_id.decode("ascii") if (request_id := request_id_var.get()) else None
}
"""What knows the ids of the moment, by the name of the record's field; whoever has another id adds its source."""

MAX_LINE = 8 * 1024
"""Bytes of one log record, its line break included."""

# The longest piece of an exception: an exception message, or one frame with its source line.
_MAX_PIECE = 1024
_MAX_FRAMES = 30
_CUT = " ... [cut] ... "
_COLOURS = {logging.DEBUG: "36", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "91"}
# C0 and C1 controls but tab and line feed, and the separators that some viewers break lines at.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def configure(log_format: LogFormat = "text", level: int | str = "info", stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream` (stderr), once, in `log_format`.

    `level` is one of the standard library's, by number or by name in any case.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter(colour=_wants_colour(stream)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level if isinstance(level, int) else level.upper())
    logging.captureWarnings(True)
    _adopt_uvicorn(root.level)


def writes_json() -> bool:
    """True after `configure("json")` in this process."""
    return any(isinstance(handler.formatter, JSONFormatter) for handler in logging.getLogger().handlers)


def _adopt_uvicorn(level: int) -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    # What uvicorn says at INFO while it starts and stops, the banner and our own lines say better. It needs a level of
    # its own in any case: uvicorn takes an unset level, 0, for a wish to trace every connection.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING if level == logging.INFO else level)


class TextFormatter(logging.Formatter):
    """`2031-02-03T04:05:06.789Z INFO     asgipipe.service: message [run=... request=...]`, exceptions below."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_timestamp(record)} {self._level(record)} {record.name[:200]}: "
        tail = "".join(f" [{name.removesuffix('_id')}={value}]" for name, value in _ids(record).items())
        room = MAX_LINE - _size(head) - _size(tail) - 2
        message, exception = _printable(_message(record)), _printable(_exception(record))
        if not exception:
            return f"{head}{cut(message, room)}{tail}"
        return f"{head}{cut(message, room // 2)}{tail}\n  {cut(exception, room // 2 - 2)}"

    def _level(self, record: logging.LogRecord) -> str:
        name = f"{record.levelname:<8}"
        return f"\x1b[{_COLOURS.get(record.levelno, '0')}m{name}\x1b[0m" if self._colour else name


class JSONFormatter(logging.Formatter):
    """One object a line: time (RFC 3339), level, logger, message; where known, run_id, request_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        message, exception = _message(record), _exception(record)
        room = MAX_LINE
        while True:
            line = self._line(record, cut(message, room), cut(exception, room))
            if _size(line) < MAX_LINE:
                return line
            room //= 2  # escaping can make a character six bytes long

    def _line(self, record: logging.LogRecord, message: str, exception: str) -> str:
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name[:200],
            "message": message,
            **_ids(record),
        }
        if exception:
            fields["exception"] = exception
        # A lone surrogate becomes its escape, which is valid JSON.
        line = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", line)


def cut(text: str, size: int) -> str:
    """Return `text` in at most `size` bytes of UTF-8: its two ends when it is longer; causes stand at either."""
    if len(text) <= size and _size(text) <= size:  # never encodes a huge text to find out
        return text
    half = max(size - len(_CUT), 2) // 2
    first = text[:half].encode("utf-8", "backslashreplace")[:half].decode("utf-8", "ignore")
    last = text[-half:].encode("utf-8", "backslashreplace")[-half:].decode("utf-8", "ignore")
    return f"{first}{_CUT}{last}"


def _size(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text.encode("utf-8", "backslashreplace"))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # boundary: what is logged is anybody's, and so is how it prints itself
        return f"{str(record.msg)[:_MAX_PIECE]} (its arguments do not fit: {type(error).__name__})"


def _exception(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "\n".join(traceback_lines(error)) if error is not None else ""


def traceback_lines(error: BaseException) -> Iterator[str]:
    """The lines that the interpreter prints for `error`, oldest cause first, but bounded in number and length.

    The standard library's own formatting needs seconds for an exception with a message of many megabytes.
    """
    for shown, introduction in reversed(list(_chain(error))):
        if shown.__traceback__ is not None:
            yield "Traceback (most recent call last):"
            frames = traceback.extract_tb(shown.__traceback__, limit=-_MAX_FRAMES)
            yield from (cut(line.rstrip(), _MAX_PIECE) for line in frames.format())
        yield _title(shown)
        yield from (cut(str(note), _MAX_PIECE) for note in getattr(shown, "__notes__", ())[:5])
        if isinstance(shown, BaseExceptionGroup):
            yield from (f"  in the group: {_title(member)}" for member in shown.exceptions[:10])
        if introduction:
            yield f"\n{introduction}\n"


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """`error`, then what caused it and so on, each with the sentence that leads to the one before."""
    introduction, seen = "", set[int]()
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(seen) < 5:
        current = following
        seen.add(id(current))
        yield current, introduction
        if current.__cause__ is not None:
            following, introduction = current.__cause__, "This was the direct cause of the following exception:"
        else:
            following = None if current.__suppress_context__ else current.__context__
            introduction = "While this was handled, another exception occurred:"


def _title(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as refusal:  # boundary: how an exception prints itself is anybody's code
        text = f"(its message cannot be printed: {type(refusal).__name__})"
    return cut(f"{type(error).__qualname__}: {text[:_MAX_PIECE]}" if text else type(error).__qualname__, _MAX_PIECE)


def _ids(record: logging.LogRecord) -> dict[str, str]:
    found = {name: getattr(record, name, None) or current() for name, current in id_sources.items()}
    return {name: str(value)[:200] for name, value in found.items() if value}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    escaped = _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), cut(text, MAX_LINE))
    return escaped.replace("\n", "\n  ")


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ
