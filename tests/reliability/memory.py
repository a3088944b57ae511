"""The memory of a server process, in bytes."""

from pathlib import Path

import psutil
import pytest

MEBIBYTE = 1024 * 1024

needs_peak = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read from /proc"
)


def resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


class Peak:
    """The most that a process held at once, beyond what it held when this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._read()

    def growth(self) -> int:
        return self._read() - self._before

    def _read(self) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel tells no VmHWM")
