"""The files with which a keeper says what it is and what became of its server, in a folder of its own."""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from asgipipe.deployers.identity import ProcessIdentity

INSTANCE = "ASGIPIPE_INSTANCE"
"""The environment variable of every process of an instance: its folder."""

_LARGEST = 65536


@dataclass(frozen=True, slots=True)
class Address:
    """What the server listens on."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a server ended: `status` as a shell has it, `told` the signal with which the keeper was told to end it."""

    status: int
    reason: str
    told: str | None
    at: float


@dataclass(frozen=True, slots=True)
class StateFolder:
    """`path` belongs to one keeper, which holds the lock as long as it lives."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def ready(self) -> Path:
        """Written by the server, with its process id, when all its workers serve."""
        return self.path / "ready"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def _pid(self) -> Path:
        return self.path / "pid"

    @property
    def _address(self) -> Path:
        return self.path / "address"

    @property
    def _exit(self) -> Path:
        return self.path / "exit"

    def write_identity(self, identity: ProcessIdentity) -> None:
        write_private(self._pid, {**asdict(identity), "host": socket.gethostname()})

    def identity(self) -> ProcessIdentity | None:
        found = read_json(self._pid)
        try:
            return ProcessIdentity(int(str(found["pid"])), float(str(found["started"])), str(found["boot"]))
        except (KeyError, ValueError):
            return None

    def host(self) -> str | None:
        """Return the name that the machine of the keeper had when it was started."""
        found = read_json(self._pid).get("host")
        return found if isinstance(found, str) else None

    def write_address(self, address: Address) -> None:
        write_private(self._address, asdict(address))

    def address(self) -> Address | None:
        found = read_json(self._address)
        try:
            return Address(str(found["host"]), int(str(found["port"])))
        except (KeyError, ValueError):
            return None

    def write_exit(self, status: int, reason: str, told: str | None = None) -> None:
        write_private(self._exit, asdict(Exit(status, reason, told, time.time())))

    def exit(self) -> Exit | None:
        found = read_json(self._exit)
        told = found.get("told")
        try:
            return Exit(
                int(str(found["status"])),
                str(found["reason"]),
                None if told is None else str(told),
                float(str(found["at"])),
            )
        except (KeyError, ValueError):
            return None


def write_private(path: Path, members: Mapping[str, object]) -> None:
    """Write JSON that only this user can read; a reader finds all of it, or what was there before."""
    write_private_text(path, json.dumps(members))


def write_private_text(path: Path, text: str) -> None:
    written = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    written.replace(path)


def read_json(path: Path) -> Mapping[str, object]:
    """Return the members of a file; none when it is not there, or is something else."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
