import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asgipipe.deployers.keeper import output
from asgipipe.deployers.keeper.output import LONGEST_LINE, Lines, RotatingLog, log_files


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., RotatingLog]:
    return lambda **options: RotatingLog(tmp_path / "log", **{"max_bytes": 1000, "files": 3, **options})


def test_files_are_bounded_in_size_and_number(log: Callable[..., RotatingLog], tmp_path: Path) -> None:
    """No file grows beyond its size, no more files are kept than were asked for, and the newest lines are in them."""
    written = log()
    for number in range(1000):
        written.write(b"%09d\n" % number)
    written.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    kept = b"".join(file.read_bytes() for file in log_files(tmp_path / "log", 3))
    assert kept.split() == [b"%09d" % number for number in range(700, 1000)]


def test_one_file_begins_anew(log: Callable[..., RotatingLog], tmp_path: Path) -> None:
    """Where one file is kept, it is emptied when it is full."""
    written = log(files=1)
    for number in range(150):
        written.write(b"%09d\n" % number)
    written.close()
    assert [file.name for file in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_bytes().split() == [b"%09d" % number for number in range(100, 150)]


def test_a_log_goes_on_where_it_was(log: Callable[..., RotatingLog], tmp_path: Path) -> None:
    """What is in the file already counts, and stays."""
    (tmp_path / "log").write_bytes(b"x" * 995 + b"\n")
    written = log()
    written.write(b"next\n")
    written.write(b"next\n")
    written.close()
    assert (tmp_path / "log.1").stat().st_size == 996
    assert (tmp_path / "log").read_bytes() == b"next\nnext\n"


def test_a_full_disk_costs_lines_and_says_so(
    log: Callable[..., RotatingLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that cannot be written are counted, and those after them are written when there is room again."""
    written = log()
    written.write(b"before\n")

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(output.os, "write", full)
        written.write(b"lost\n")
        written.write(b"lost too\n")
    written.write(b"after\n")
    written.close()
    assert (tmp_path / "log").read_text().splitlines() == [
        "before",
        "[14 bytes of the log were lost, since they could not be written]",
        "after",
    ]


def test_a_write_that_takes_a_part_is_finished(
    log: Callable[..., RotatingLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line is whole, though the system takes it in pieces."""
    write = os.write
    monkeypatch.setattr(output.os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    written = log()
    written.write(b"a whole line\n")
    written.close()
    assert (tmp_path / "log").read_bytes() == b"a whole line\n"


@pytest.mark.parametrize("size", [1, 2, 7, 4096, 1_000_000])
def test_lines_are_cut_from_whatever_is_read(log: Callable[..., RotatingLog], tmp_path: Path, size: int) -> None:
    """However the bytes come, each line is one, a very long one is cut, and a last one without an end gets one."""
    text = b"one\n\ntw\xc3\xb6\r\n" + b"x" * (LONGEST_LINE + 5) + b"\nlast"
    written = log(max_bytes=1_000_000)
    lines = Lines(written)
    for start in range(0, len(text), size):
        lines.feed(text[start : start + size])
    lines.end()
    lines.end()
    written.close()
    expected = [b"one", b"", b"tw\xc3\xb6\r", b"x" * LONGEST_LINE + b" [5 more bytes]", b"last", b""]
    assert (tmp_path / "log").read_bytes().split(b"\n") == expected
