import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from asgipipe import logs
from asgipipe.logs import MAX_LINE, LogFormat, configure, cut, request_id_var

FORMATS: tuple[LogFormat, ...] = ("text", "json")
HUGE = 20 * 1024 * 1024


@pytest.fixture(autouse=True)
def host_logging() -> Iterator[None]:
    """Put back what `configure` changes: it is meant for a process of its own."""
    names = (None, "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)
    logging.captureWarnings(False)


def configured(log_format: LogFormat, level: int | str = "debug") -> io.StringIO:
    stream = io.StringIO()
    configure(log_format, level, stream)
    return stream


def written(stream: io.StringIO) -> bytes:
    return stream.getvalue().encode("utf-8", "backslashreplace")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_line_of_json_has_the_documented_members() -> None:
    """Time in RFC 3339 and UTC, level, logger, message; ids and an exception where there are any."""
    stream = configured("json")
    token = request_id_var.set(b"request-1")
    try:
        logging.getLogger("my.app").warning("%d left", 3, extra={"run_id": "run-1"}, exc_info=raised(ValueError("why")))
    finally:
        request_id_var.reset(token)
    logging.getLogger("my.app").info("plain")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).utcoffset() is not None
    exception = first.pop("exception")
    assert exception.startswith("Traceback (most recent call last):")
    assert exception.endswith("ValueError: why")
    assert first == {
        "level": "warning",
        "logger": "my.app",
        "message": "3 left",
        "run_id": "run-1",
        "request_id": "request-1",
    }
    assert second.keys() == {"time", "level", "logger", "message"}


def test_a_line_of_text_names_what_it_belongs_to() -> None:
    """Text lines end with the run and the request they belong to."""
    stream = configured("text")
    logging.getLogger("my.app").info("hello", extra={"run_id": "run-1"})
    assert stream.getvalue().endswith("INFO     my.app: hello [run=run-1]\n")


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("text", ["x" * HUGE, "é\n" * (HUGE // 3), "\0" * HUGE, "\udc80" * 100_000, '"' * HUGE])
def test_no_line_is_longer_than_8_kib(log_format: LogFormat, text: str) -> None:
    """Huge messages, arguments and exception messages are cut, whatever escaping makes of their characters."""
    errors = [None, ValueError(text), ExceptionGroup(text[:1000], [ValueError(text)])]
    for message, error in [(text, None), *(("it was %s", error) for error in errors)]:
        stream = configured(log_format)
        logging.getLogger("x").error(message, *([] if message is text else [text]), exc_info=error and raised(error))
        assert 0 < len(written(stream)) <= MAX_LINE
        if log_format == "json":
            assert json.loads(stream.getvalue())["logger"] == "x"


def test_both_ends_of_what_is_cut_are_kept() -> None:
    """The reason of a failure may stand at either end."""
    assert cut("start" + "x" * HUGE + "end", 100).startswith("start")
    assert cut("start" + "x" * HUGE + "end", 100).endswith("end")
    assert len(cut("é" * HUGE, 100).encode()) <= 100
    assert cut("short", 5) == "short"


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_line_cannot_be_forged(log_format: LogFormat) -> None:
    """A line break in a message begins no line of its own, and escape sequences do not reach the terminal."""
    stream = configured(log_format)
    logging.getLogger("x").info("one\n2031-01-01T00:00:00.000Z INFO     x: two\r\x1b[31mred\x9b\u2028three")
    lines = stream.getvalue().splitlines()
    assert not any(line.startswith("2031") for line in lines)
    assert not set("\r\x1b\x9b\u2028") & set(stream.getvalue())


@pytest.mark.parametrize("log_format", FORMATS)
def test_what_cannot_be_printed_is_logged_all_the_same(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong arguments and exceptions that refuse to be printed make a line, not an error of the logging."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    stream = configured(log_format)
    arguments = ("one",)
    logging.getLogger("x").info("%d and %d", *arguments)
    logging.getLogger("x").error("failed", exc_info=raised(Mute()))
    assert "its arguments do not fit: TypeError" in stream.getvalue()
    assert "its message cannot be printed: RuntimeError" in stream.getvalue()
    assert capsys.readouterr().err == ""


def test_causes_are_told_in_their_order() -> None:
    """The oldest cause comes first, with the sentence that leads to the next, and notes below; a circle ends."""
    cause, effect = ValueError("first"), raised(TypeError("second"))
    effect.__cause__ = cause
    effect.add_note("a note")
    cause.__context__ = effect
    stream = configured("text")
    logging.getLogger("x").error("failed", exc_info=effect)
    text = stream.getvalue()
    positions = [text.index(part) for part in ("ValueError: first", "the direct cause", "TypeError: second", "a note")]
    assert positions == sorted(positions)
    assert text.count("TypeError: second") == 1


def test_a_deep_recursion_is_a_short_traceback() -> None:
    """A thousand equal frames are not a thousand lines."""

    def fall() -> None:
        fall()

    stream = configured("text")
    try:
        fall()
    except RecursionError:
        logging.getLogger("x").exception("failed")
    assert "RecursionError" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) < 50


def test_uvicorn_and_warnings_take_the_same_way() -> None:
    """uvicorn's loggers have no handlers of their own, its access log included, and warnings are lines too."""
    stream = configured("json", "info")
    logging.getLogger("uvicorn.error").error("from uvicorn")
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("uvicorn.access").info("from its access log")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("take care", stacklevel=1)
    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages[:2] == ["from uvicorn", "from its access log"]
    assert "take care" in messages[2]
    assert len(messages) == 3


def test_the_level_counts() -> None:
    """Below the level nothing is written."""
    stream = configured("text", "WARNING")
    logging.getLogger("x").info("unheard")
    logging.getLogger("x").warning("heard")
    assert "unheard" not in stream.getvalue()
    assert "heard" in stream.getvalue()


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape sequences are written to a terminal only, and not when NO_COLOR is set."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, plain = Terminal(), io.StringIO()
    for stream in (terminal, plain):
        configure("text", "info", stream)
        logging.getLogger("x").info("hello")
    assert "\x1b[32m" in terminal.getvalue()
    assert "\x1b" not in plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    configure("text", "info", terminal)
    logging.getLogger("x").info("hello")
    assert "\x1b" not in terminal.getvalue()


def test_the_logging_of_a_host_is_left_alone() -> None:
    """Importing and building a deployment adds no handler and sets no level."""
    program = """
import logging
from asgipipe import asgi
asgi(lambda: 1)
root = logging.getLogger()
assert root.handlers == [] and root.level == logging.WARNING, root
assert logging.getLogger("asgipipe").handlers == []
assert logging.getLogger("asgipipe").level == logging.NOTSET
assert logging.getLogger("uvicorn.error").level == logging.NOTSET
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_json_is_recognised() -> None:
    """`writes_json` tells which of the two formats is in force."""
    configured("text")
    assert not logs.writes_json()
    configured("json")
    assert logs.writes_json()
