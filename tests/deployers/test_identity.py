import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from asgipipe.deployers import identity
from asgipipe.deployers.records import Claim


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def claim_of(process: "subprocess.Popen[bytes]") -> Claim:
    found = identity.process_identity(process.pid)
    assert found is not None
    return replace(identity.claim("deploying"), pid=found.pid, started=found.started)


def test_who_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the account, unless ASGIPIPE_OWNER says otherwise, in printable characters and not too many."""
    monkeypatch.delenv(identity.OWNER, raising=False)
    assert identity.actor() == getpass.getuser()
    monkeypatch.setenv(identity.OWNER, " ci\x1b of Ada\n")
    assert identity.actor() == "ci of Ada"
    monkeypatch.setenv(identity.OWNER, "a" * 1000)
    assert identity.actor() == "a" * 255
    monkeypatch.setenv(identity.OWNER, " ")
    assert identity.actor() == getpass.getuser()


def test_an_account_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a number that nobody has given a name."""
    monkeypatch.delenv(identity.OWNER, raising=False)

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert identity.actor() == f"user {os.getuid()}"


def test_a_claim_says_who_and_where() -> None:
    """It names this process, this machine, the operation and the time."""
    before = time.time()
    claim = identity.claim("deploying")
    assert (claim.actor, claim.host, claim.pid) == (identity.actor(), socket.gethostname(), os.getpid())
    assert (claim.operation, before <= claim.since <= time.time()) == ("deploying", True)


def test_a_process_that_lives(child: "subprocess.Popen[bytes]") -> None:
    """Its claim holds, however old it is and whatever the machine is called by now."""
    claim = claim_of(child)
    assert not identity.is_dead(claim)
    assert not identity.is_dead(replace(claim, since=0.0, host="elsewhere"))
    found = identity.process_identity(child.pid)
    assert found is not None
    process = identity.living(found)
    assert process is not None
    assert process.pid == child.pid


def test_a_process_that_has_ended(child: "subprocess.Popen[bytes]") -> None:
    """It is dead from its end on, also while its parent has not waited for it."""
    claim, found = claim_of(child), identity.process_identity(child.pid)
    assert found is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert identity.is_dead(claim)
    assert identity.living(found) is None
    assert identity.process_identity(child.pid) is None
    child.wait()
    assert identity.is_dead(claim)
    assert identity.process_identity(child.pid) is None


def test_a_stranger_with_the_same_number(child: "subprocess.Popen[bytes]") -> None:
    """A process that was started at another time is not the one that made the claim."""
    claim = claim_of(child)
    assert identity.is_dead(replace(claim, started=claim.started - 10))
    found = identity.this_process()
    assert identity.living(replace(found, started=found.started + 10)) is None


def test_impossible_numbers() -> None:
    """A number that no process can have is that of none."""
    assert identity.process_identity(-1) is None
    assert identity.process_identity(2**30) is None
    assert identity.process_identity(2**70) is None


def test_another_boot() -> None:
    """What ran before this machine was started anew is dead, though a process may have its number and its start."""
    claim = identity.claim("deploying")
    assert identity.is_dead(replace(claim, boot=f"before {claim.boot.partition(' ')[2]}"))
    assert identity.living(replace(identity.this_process(), boot="before")) is None


@pytest.mark.parametrize("change", ["machine", "namespace"])
def test_a_process_that_cannot_be_looked_for(change: str) -> None:
    """That of another machine, or of another container on this one, is dead once its claim is fifteen minutes old."""
    mine = identity.claim("deploying")
    other = {
        "machine": replace(mine, host="elsewhere", boot="another pid:[1]", pid=2**22),
        "namespace": replace(mine, boot=f"{mine.boot.partition(' ')[0]} pid:[1]", pid=2**22),
    }[change]
    assert not identity.is_dead(other)
    assert not identity.is_dead(replace(other, since=time.time() - identity.FORGOTTEN + 60))
    assert identity.is_dead(replace(other, since=time.time() - identity.FORGOTTEN - 60))


def test_a_system_that_does_not_name_its_boots(
    monkeypatch: pytest.MonkeyPatch, child: "subprocess.Popen[bytes]"
) -> None:
    """There the machine's name says whether a process can be looked for, and its start tells it from a stranger."""
    monkeypatch.setattr(identity, "_boot", lambda: "")
    claim = claim_of(child)
    assert claim.boot == ""
    assert not identity.is_dead(claim)
    assert identity.is_dead(replace(claim, started=claim.started - 10))
    assert not identity.is_dead(replace(claim, host="elsewhere", pid=2**22))
