"""`python -m asgipipe.deployers.container.join SOCKET KEEPER...`: be a keeper once a listener is offered at SOCKET.

Containers that an engine starts together, after the machine was, come up in any order.
"""

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from asgipipe.deployers.keeper.handing_over import taken_over

_PATIENCE = 60.0
_PAUSE = 0.05
_FAILED = 3


def main(arguments: list[str]) -> NoReturn:
    path, deadline = Path(arguments[0]), time.monotonic() + _PATIENCE
    while (reason := _refusal(path)) is not None:
        if time.monotonic() > deadline:
            sys.stderr.write(f"Error: no listener was offered at {path} within {_PATIENCE:g} s: {reason}\n")
            sys.exit(_FAILED)
        time.sleep(_PAUSE)
    command = [sys.executable, "-m", "asgipipe.deployers.keeper", "--take-over", str(path), *arguments[1:]]
    os.execv(sys.executable, command)  # noqa: S606  # our own module


def _refusal(path: Path) -> str | None:
    try:
        taken_over(path).close()
    except OSError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
