"""Finding and ending the processes of an instance, and never a stranger's."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from asgipipe.deployers.identity import ProcessIdentity, living
from asgipipe.deployers.keeper.state import INSTANCE

_KILLED_WITHIN = 5.0
"""Seconds in which the kernel ends what was killed."""
_PAUSE = 0.02


def tell(identity: ProcessIdentity, number: int) -> bool:
    """Send a signal to a process, if it still runs."""
    process = living(identity)
    if process is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
        return True
    return False


def ends_within(identity: ProcessIdentity, seconds: float) -> bool:
    """Wait for the end of a process, and say whether it came."""
    deadline = time.monotonic() + seconds
    while living(identity) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True


def kill_group(identity: ProcessIdentity) -> None:
    """Kill the process group that a process leads, while it runs: only then is the number of the group its own."""
    process = living(identity)
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
    ends_within(identity, _KILLED_WITHIN)


def kill_members(folder: Path) -> bool:
    """Kill every process that was started for the instance of a folder, wherever it fled; say whether any was found."""
    found = False
    deadline = time.monotonic() + _KILLED_WITHIN
    while (left := members(folder)) and time.monotonic() < deadline:
        found = True
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)
    return found


def members(folder: Path) -> list[psutil.Process]:
    """Return the processes of this user that say in their environment that they belong to a folder's instance."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(INSTANCE) == str(folder):
                found.append(process)
    return found
