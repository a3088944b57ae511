import threading
from pathlib import Path

from asgipipe.deployers.keeper.output import RotatingLog
from asgipipe.deployers.local.reading import follow, last_lines


def test_all_that_is_kept_is_read_in_order(tmp_path: Path) -> None:
    """The lines of all files come, the oldest first, or as many of the last ones as were asked for."""
    log = RotatingLog(tmp_path / "log", max_bytes=100, files=4)
    for number in range(40):
        log.write(b"line %03d\n" % number)
    log.close()
    kept = [f"line {number:03}" for number in range(40)][-len(last_lines(tmp_path / "log", 1000)) :]
    assert len(kept) > 30
    assert list(follow(tmp_path / "log", tail=None, ended=lambda: True)) == kept
    assert last_lines(tmp_path / "log", 15) == kept[-15:]
    assert last_lines(tmp_path / "log", 0) == []


def test_nothing_was_written(tmp_path: Path) -> None:
    """A log that is not there has no lines, and bytes that are no text do no harm."""
    assert last_lines(tmp_path / "log", 10) == []
    (tmp_path / "log").write_bytes(b"\xff\xfe\n\n")
    assert last_lines(tmp_path / "log", 10) == ["\ufffd\ufffd", ""]


def test_following_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """A reader that keeps up gets every line once, in order, over many rotations, and its end ends with the log."""
    lines = 5000
    read = threading.Semaphore(0)
    over = threading.Event()

    def write() -> None:
        log = RotatingLog(tmp_path / "log", max_bytes=2000, files=3)
        for number in range(lines):
            log.write(b"%08d\n" % number)
            if number >= 300:  # about as many as two files hold: the reader is never further behind
                read.acquire()
        log.close()
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    expected = 0
    for line in follow(tmp_path / "log", tail=None, ended=over.is_set):
        assert int(line) == expected
        expected += 1
        read.release()
    assert expected == lines
    writer.join()


def test_a_reader_that_falls_behind_goes_on(tmp_path: Path) -> None:
    """Of files that are gone before they were read the lines are missing; those that are there come, once."""
    log = RotatingLog(tmp_path / "log", max_bytes=100, files=3)
    log.write(b"first\n")
    over = False
    found = follow(tmp_path / "log", tail=None, ended=lambda: over)
    assert next(found) == "first"
    for number in range(100):
        log.write(b"line %03d\n" % number)
    log.close()
    over = True
    numbers = [int(line.removeprefix("line ")) for line in found]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 99
    assert len(numbers) < 100
