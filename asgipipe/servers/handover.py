"""Going on as gunicorn's parent process: the same command anew, in a new interpreter of the same process.

gunicorn forks its workers from its parent process, and a worker must read settings and code anew after a reload. So the
parent must not have imported them; but to know that gunicorn is wanted at all, the command had to. What it found out
crosses in a private file, the socket it bound as an open descriptor.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from asgipipe.errors import ServerError
from asgipipe.servers import specification as specifications
from asgipipe.servers.banner import Announcement
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.protocol import ProtocolLimits

_FILE = "handover.json"


@dataclass(frozen=True, slots=True)
class Handover:
    """What the parent process is told: `folder` is the private one that workers share, which it removes at the end."""

    options: ServerOptions
    announcement: Announcement
    folder: Path
    listener: int

    @contextlib.contextmanager
    def socket(self) -> Iterator[socket.socket]:
        """The bound socket. What the command opened is closed and removed afterwards, not by workers that end here."""
        owner = os.getpid()
        listener = socket.socket(fileno=self.listener)
        listener.set_inheritable(False)
        name = listener.getsockname()
        try:
            yield listener
        finally:
            if os.getpid() == owner:
                listener.close()
                if isinstance(name, str):
                    Path(name).unlink(missing_ok=True)
                specifications.remove(self.folder)


def replace_this_process(
    options: ServerOptions, listener: socket.socket, announcement: Announcement, folder: Path
) -> NoReturn:
    """Run the command of this process again in its place; there, `received` returns what is given here.

    Raises ServerError when that is impossible.
    """
    # uvicorn's arguments may be objects that only code can give; workers resolve them themselves.
    members = {
        "pid": os.getpid(),
        "options": {**asdict(options), "uvicorn": {}},
        "announcement": asdict(announcement),
        "listener": listener.fileno(),
    }
    path = folder / _FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(members, file)
    listener.set_inheritable(True)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # the command that runs already
    except OSError as error:
        raise ServerError(f"the process cannot go on as gunicorn's: {error}") from error


def received() -> Handover | None:
    """Return what `replace_this_process` left for this process, once; None in every other."""
    place = os.environ.get(specifications.VARIABLE)
    path = Path(place).with_name(_FILE) if place else None
    if path is None or not path.is_file():
        return None
    members = json.loads(path.read_text(encoding="utf-8"))
    if members["pid"] != os.getpid():  # a command that a worker's own code has started
        return None
    path.unlink()
    options = members["options"]
    return Handover(
        options=ServerOptions(**{**options, "limits": ProtocolLimits(**options["limits"])}),
        announcement=Announcement(**members["announcement"]),
        folder=path.parent,
        listener=members["listener"],
    )
