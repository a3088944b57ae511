"""Who works on a deployment: the user, and the process, which a pid alone does not tell from a stranger's."""

import functools
import getpass
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from asgipipe.deployers.records import Claim

OWNER = "ASGIPIPE_OWNER"
"""The variable that says who somebody is, where the name of the account does not: in a pipeline of CI, say."""

FORGOTTEN = 15 * 60.0
"""Seconds after which a claim is taken over whose process nobody here can look for: another machine's. It is longer
than every operation."""

_LONGEST_NAME = 255
_TOLERANCE = 1.5
"""Seconds by which the time of a start may differ: the kernel gives the time of the boot in whole seconds."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NUMBERING = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one machine: `started` is seconds after its boot, which no change of the clock alters.

    `boot` names the boot, and the namespace that the pid is a number in; it is empty where the system tells neither.
    """

    pid: int
    started: float
    boot: str


def actor() -> str:
    """Return who acts: `ASGIPIPE_OWNER`, or the name of the account."""
    given = "".join(filter(str.isprintable, os.environ.get(OWNER, ""))).strip()
    return given[:_LONGEST_NAME] or _account()


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as containers have them; OSError from Python 3.13 on
        return f"user {os.getuid()}"


def this_process() -> ProcessIdentity:
    found = process_identity(os.getpid())
    assert found is not None
    return found


def process_identity(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has the number `pid` now; None when there is none that runs."""
    process = _running(pid)
    return None if process is None else ProcessIdentity(pid, _started(process), _boot())


def living(identity: ProcessIdentity) -> psutil.Process | None:
    """Return a process of this machine while it runs: never a zombie, nor a stranger that has its number by now."""
    if identity.boot != _boot():
        return None
    process = _running(identity.pid)
    return process if process is not None and abs(_started(process) - identity.started) <= _TOLERANCE else None


def claim(operation: str) -> Claim:
    """Return the claim of this process, made now."""
    process = this_process()
    return Claim(
        actor=actor(),
        host=socket.gethostname(),
        pid=process.pid,
        started=process.started,
        boot=process.boot,
        operation=operation,
        since=time.time(),
    )


def is_dead(claim: Claim) -> bool:
    """Say whether a claim holds no more: its process has ended, or cannot be looked for and is FORGOTTEN."""
    if _is_here(claim):
        return living(ProcessIdentity(claim.pid, claim.started, claim.boot)) is None
    if claim.host == socket.gethostname() and _machine(claim.boot) != _machine(_boot()):
        return True  # this machine was started anew
    return time.time() - claim.since > FORGOTTEN


def _is_here(claim: Claim) -> bool:
    # Names of machines change, that of a laptop with its network; what the kernel calls the boot does not.
    return claim.boot == _boot() and (bool(claim.boot) or claim.host == socket.gethostname())


def _running(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} else process
    except (psutil.NoSuchProcess, ValueError):
        return None


def _started(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()


@functools.cache
def _boot() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {_NUMBERING.readlink()}"
    except OSError:  # no Linux: there the start alone tells processes apart
        return ""


def _machine(boot: str) -> str:
    """Return the part that names the boot."""
    return boot.partition(" ")[0]
