"""The file with which `asgipipe serve` tells whoever started it that all its workers serve."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asgipipe.errors import ServerError

VARIABLE = "ASGIPIPE_READY_FILE"
"""The environment variable with the path of the file."""


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """It holds the process id of the command, from when all its workers serve until the command ends.

    Without a `path` nobody wants to know.
    """

    path: Path | None

    def write(self) -> None:
        """Raises ServerError when the file cannot be written: whoever waits for it would wait in vain."""
        if self.path is None:
            return
        written = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            written.write_text(f"{os.getpid()}\n", encoding="ascii")
            written.replace(self.path)  # a reader finds all of it, or nothing
        except OSError as error:
            raise ServerError(f"the file {self.path} ({VARIABLE}) cannot be written: {error.strerror}") from error

    def leave_to_next(self) -> None:
        """Name the file in the environment again, for the program that this process goes on as."""
        if self.path is not None:
            os.environ[VARIABLE] = str(self.path)


@contextlib.contextmanager
def ready_file() -> Iterator[ReadyFile]:
    """The file that the environment names; one that is there already says nothing about this command, and is removed.

    The variable is taken away: it is not meant for commands that a pipeline starts.
    """
    owner, place = os.getpid(), os.environ.pop(VARIABLE, "")
    path = Path(place).absolute() if place else None
    _remove(path)
    try:
        yield ReadyFile(path)
    finally:
        if os.getpid() == owner:  # gunicorn's workers leave the same block
            _remove(path)


def _remove(path: Path | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()
