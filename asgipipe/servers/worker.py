"""A worker process: makes the application from the specification and serves it on the socket of its parent."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import NoReturn

from asgipipe import logs
from asgipipe.errors import ServerError, UserError
from asgipipe.servers import deadline
from asgipipe.servers import specification as specifications
from asgipipe.servers.collector import spared
from asgipipe.servers.options import ServerOptions

READY = b"ready "
"""Followed by the seconds, as text, that the worker may take to end."""

PING = b"ping"
PONG = b"pong"

STARTUP_FAILURE = ServerError.exit_code

logger = logging.getLogger("asgipipe.servers")


def work(options: ServerOptions, listener: socket.socket | None, parent: Connection) -> NoReturn:
    """Serve until told to stop, and end the process. Says READY to `parent`, and PONG whenever it is asked.

    Without a listener it runs jobs only.

    `options` are those with which the parent was started; the worker resolves its own anew.
    """
    logs.configure(options.log_format, options.log_level)
    ignore_terminal()
    threading.Thread(target=_answer, args=(parent,), name="asgipipe-health", daemon=True).start()
    end(lambda: _serve(listener, parent))


def ignore_terminal() -> None:
    """Leave ctrl-C and the hang-up of a terminal, which go to every process of the command, to the parent alone."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end(serve: Callable[[], int]) -> NoReturn:
    """End the process with the status that `serve` returns; why it did not start is left for the parent to say."""
    status = STARTUP_FAILURE
    try:
        status = serve()
    except UserError as error:
        _report(str(error))
    except Exception as error:  # boundary: nothing may be served by half
        logger.exception("a worker did not start")
        _report(f"a worker did not start: {type(error).__name__}: {str(error)[:300]}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told twice: the status above is the truth
    deadline.end_within(1.0)  # threads of the user's, which Python would wait for
    sys.exit(status)


def _serve(listener: socket.socket | None, parent: Connection) -> int:
    with spared():
        from asgipipe.servers.application import create

    application, options = create()
    ready = READY + b"%.3f" % options.longest_stop
    on_started = partial(_tell, parent, ready)
    if listener is None:
        from asgipipe.servers.jobs import run_jobs

        return run_jobs(application, options, on_started, supervised=True)
    from asgipipe.servers.uvicorn import serve

    return serve(application, options, listener, on_started, supervised=True)


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
