"""A worker process: makes the application from the specification and serves it on the socket of its parent."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from multiprocessing.connection import Connection
from typing import NoReturn

from asgipipe import logs
from asgipipe.errors import ServerError, UserError
from asgipipe.servers import deadline
from asgipipe.servers import specification as specifications
from asgipipe.servers.options import ServerOptions

READY = b"ready"
PING = b"ping"
PONG = b"pong"

STARTUP_FAILURE = ServerError.exit_code

logger = logging.getLogger("asgipipe.servers")


def work(options: ServerOptions, listener: socket.socket, parent: Connection) -> NoReturn:
    """Serve until told to stop, and end the process. Says READY to `parent`, and PONG whenever it is asked."""
    # A terminal sends ctrl-C to every process of the command; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(options.log_format, options.log_level)
    threading.Thread(target=_answer, args=(parent,), name="asgipipe-health", daemon=True).start()
    status = STARTUP_FAILURE
    try:
        status = _serve(options, listener, parent)
    except UserError as error:
        _report(str(error))
    except Exception as error:  # boundary: nothing may be served by half
        logger.exception("a worker did not start")
        _report(f"a worker did not start: {type(error).__name__}: {str(error)[:300]}")
    deadline.end_within(1.0)  # threads of the user's, which Python would wait for
    sys.exit(status)


def _serve(options: ServerOptions, listener: socket.socket, parent: Connection) -> int:
    from asgipipe.servers.application import create_app
    from asgipipe.servers.uvicorn import serve

    return serve(create_app(), options, listener, lambda: _tell(parent, READY))


def _report(message: str) -> None:
    folder = specifications.read().directory
    if folder is not None:
        specifications.report_failure(folder, message)


def _tell(parent: Connection, message: bytes) -> None:
    with contextlib.suppress(OSError):  # the parent is gone; `_answer` sees to it
        parent.send_bytes(message)


def _answer(parent: Connection) -> None:
    """Answer the parent, from a thread: a worker is alive as long as it can take the interpreter lock."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            parent.recv_bytes(len(PING))
            parent.send_bytes(PONG)
    # Without a parent nobody would ever stop this process.
    os.kill(os.getpid(), signal.SIGTERM)
