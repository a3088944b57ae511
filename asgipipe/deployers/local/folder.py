"""The folder of one instance: what the deployer writes for the keeper, beside what the keeper writes itself."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from asgipipe.deployers.frozen import settings_text
from asgipipe.deployers.keeper.private import private_folder
from asgipipe.deployers.keeper.state import Address, StateFolder, read_json, write_private, write_private_text
from asgipipe.deployers.records import JSONObject
from asgipipe.errors import DeploymentError

_LONGEST_SOCKET = 100
"""Bytes of the path of a Unix socket: Linux takes 107, macOS 103."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an instance was to be: `host` and `port` as they were wanted, whatever port it got."""

    scheme: str
    host: str
    port: int
    root: str
    started_at: float


@dataclass(frozen=True, slots=True)
class InstanceFolder:
    path: Path

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.path)

    @property
    def settings(self) -> Path:
        return self.path / "settings.yaml"

    @property
    def offer(self) -> Path:
        """The Unix socket of its keeper. Raises DeploymentError when there is no place for it."""
        path = self.path / "socket"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET:
            return path
        return private_folder() / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.socket"

    @contextlib.contextmanager
    def locked(self) -> Iterator[int | None]:
        """The descriptor of the lock that its keeper holds; None while somebody else has it.

        A process that inherits the descriptor keeps the lock until it ends.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.state.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor if _lock(descriptor, exclusive=True) else None
        finally:
            os.close(descriptor)

    @property
    def is_kept(self) -> bool:
        """Whether a keeper holds the lock, or somebody is starting one."""
        try:
            descriptor = os.open(self.state.lock, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _lock(descriptor, exclusive=False)
        finally:
            os.close(descriptor)

    def prepare(self, plan: Plan, settings: JSONObject) -> None:
        """Write what a keeper and its server read; what is left of one before them is removed. Hold the lock."""
        for found in self.path.iterdir():
            if found != self.state.lock:
                found.unlink()
        write_private_text(self.settings, settings_text(settings))
        write_private(self._plan, asdict(plan))

    @property
    def _plan(self) -> Path:
        return self.path / "plan"

    def plan(self) -> Plan | None:
        found = read_json(self._plan)
        try:
            return Plan(
                scheme=str(found["scheme"]),
                host=str(found["host"]),
                port=int(str(found["port"])),
                root=str(found["root"]),
                started_at=float(str(found["started_at"])),
            )
        except (KeyError, ValueError):
            return None

    def address(self) -> Address | None:
        """Return what it listens on, or was to."""
        plan = self.plan()
        return self.state.address() or (None if plan is None else Address(plan.host, plan.port))

    def remove(self) -> None:
        with contextlib.suppress(DeploymentError):  # where there is no place for a socket, there is none
            self.offer.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    import fcntl  # there is none on Windows, where this module is imported all the same

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
