"""The command line of a keeper, for deployers. Nothing in it is secret: everybody on the machine can read it."""

import argparse
import os
import sys
import traceback
from pathlib import Path

from asgipipe.deployers.keeper.keeper import Keeper, KeeperOptions
from asgipipe.deployers.keeper.ports import PortRange
from asgipipe.deployers.keeper.state import StateFolder
from asgipipe.errors import DeploymentError

_FAILED = 3
"""The exit status of `asgipipe serve` when the server was not started."""


def main() -> int:
    options, detach = _options()
    if detach:
        _detach()
    try:
        return Keeper(options).run()
    except DeploymentError as error:
        sys.stderr.write(f"Error: {error}\n")
        options.state.write_exit(_FAILED, str(error))
    except Exception as error:  # boundary: nobody watches this process, so what it leaves behind has to say why
        traceback.print_exc()
        options.state.write_exit(_FAILED, f"the keeper failed: {type(error).__name__}: {str(error)[:300]}")
    return _FAILED


def _detach() -> None:
    """Go on as a process of nobody's, in a session of its own: whoever started this one waits for it no longer."""
    if os.fork():
        os._exit(0)
    os.setsid()


def _options() -> tuple[KeeperOptions, bool]:
    parser = argparse.ArgumentParser("python -m asgipipe.deployers.keeper", description="Keep one server.")
    parser.add_argument("--state", required=True, metavar="FOLDER", help="where it says what it is; it exists")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int, help="0 is any")
    parser.add_argument("--ports", type=PortRange.parse, metavar="FIRST-LAST", help="tried when the port is taken")
    parser.add_argument("--take-over", type=Path, metavar="SOCKET", help="where the keeper before gives its listener")
    parser.add_argument("--offer", type=Path, metavar="SOCKET", help="where the next keeper can have the listener")
    parser.add_argument("--log-max-bytes", type=int, default=10_000_000, help="of each file [10000000]")
    parser.add_argument("--log-files", type=int, default=0, help="0: no file, the output goes to that of the keeper")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    given = parser.parse_args()
    options = KeeperOptions(
        state=StateFolder(Path(given.state).absolute()),
        host=given.host,
        port=given.port,
        ports=given.ports,
        take_over=given.take_over,
        offer=given.offer,
        log_max_bytes=given.log_max_bytes,
        log_files=given.log_files,
        command=given.command,
    )
    return options, given.detach


if __name__ == "__main__":
    sys.exit(main())
