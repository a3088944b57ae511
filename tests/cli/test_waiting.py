import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from asgipipe.cli.waiting import Waiting
from tests.conftest import PATIENCE

SCRIPT = """
import sys, time
from asgipipe.cli.waiting import Waiting

with Waiting() as waiting:
    waiting("starting it")
    time.sleep(0.3)
    waiting("x" * 200)
    time.sleep(0.3)
print("done", file=sys.stderr)
"""


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets one line for each step, none twice, and no thread is started."""
    before = threading.active_count()
    with Waiting() as waiting:
        waiting("starting")
        waiting("starting")
        waiting("waiting until it is ready")
        assert threading.active_count() == before
    assert capsys.readouterr() == ("", "starting …\nwaiting until it is ready …\n")


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said where only the outcome counts."""
    with Waiting(quiet=True) as waiting:
        waiting("starting")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_one_line_moves() -> None:
    """Every step takes the line of the one before it, is cut to its width, and leaves an empty line at its end."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown = "".join(pieces(ours))
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert "\r\x1b[2K" in shown
    assert shown.count("starting it") > 1
    assert "x" * 76 + "…" in shown  # 80 columns, where nobody has said how many there are
    assert "x" * 77 not in shown
    assert shown.endswith("\r\x1b[2Kdone\r\n")


def pieces(terminal: int) -> Iterator[str]:
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: the other side is closed
            return
        if not data:
            return
        yield data.decode(errors="replace")
