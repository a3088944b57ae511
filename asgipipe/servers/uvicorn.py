"""Serving with uvicorn in this process: the only one of a command, or a worker of our supervisor's or gunicorn's.

Exit status: 0 after a clean end, also by SIGTERM or ctrl-C (uvicorn itself would end by the signal, which some service
managers take for a failure); 1 when requests or hooks were cut short; 3 when the server did not start.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asgipipe import logs
from asgipipe.errors import ServerError
from asgipipe.servers import deadline, sockets
from asgipipe.servers.application import ServedApplication
from asgipipe.servers.drain import RETIRE
from asgipipe.servers.loop import run_to_end
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.protocol import bounded_protocol
from asgipipe.servers.websocket import bounded_websocket

logger = logging.getLogger("asgipipe.servers")

_LAST_CLIENTS = 0.2
"""Seconds that clients have to take their last bytes when everything was drained or cut."""

_LAST_REQUESTS = 2.0
"""Seconds in which connections to a worker that others have replaced may send one more request."""


def serve(
    application: ServedApplication,
    options: ServerOptions,
    listener: socket.socket,
    on_started: Callable[[], None],
    *,
    supervised: bool = False,
) -> int:
    """Serve `application` in this process until told to stop; return the exit status.

    A `supervised` process is a worker: its parent alone says when it stops, and when others have taken its place.
    Raises the UserError that kept the application from starting.
    """
    application.reports_failure = True
    application.drain.supervised = supervised
    application.drain.timeout = options.drain_timeout
    server = _Server(_Config(application, options), application, options, on_started)
    try:
        with _quiet_signals(server), server.guard:
            server.run([listener])
    except SystemExit as request:  # uvicorn's way out of a start that failed
        if application.failure is not None:
            raise application.failure from None
        return 0 if application.drain.begun else int(request.code or STARTUP_FAILURE)
    except OSError as error:  # somebody else was first to listen on the address that both had bound
        raise sockets.refusal(error, options.host, options.port) from error
    return 1 if application.unclean else 0


@contextlib.contextmanager
def _quiet_signals(server: uvicorn.Server) -> Iterator[None]:
    """Keep the signals that stop the server from ending the process.

    uvicorn raises them again when it has stopped, for the handlers that were there before: these. One that comes before
    uvicorn listens to them counts as well.
    """

    def note(_number: int, _frame: object) -> None:
        server.should_exit = True

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Config(uvicorn.Config):
    def __init__(self, application: ServedApplication, options: ServerOptions) -> None:
        self._options = options
        self.protocol = bounded_protocol(options.limits)
        others = {name: value for name, value in options.uvicorn.items() if name not in _HANDLED_HERE}
        limits = options.limits
        ours: dict[str, Any] = {  # uvicorn's own arguments, each of a type of its own
            "access_log": False,
            "ws": bounded_websocket(limits),
            "ws_max_size": limits.max_message_size,
        }
        super().__init__(
            application,
            interface="asgi3",
            lifespan="on",
            http=self.protocol,
            server_header=False,
            workers=1,
            timeout_graceful_shutdown=round(options.drain_timeout),
            **(ours | others),
        )

    def configure_logging(self) -> None:
        """Log like the rest of the command, whatever uvicorn would configure."""
        logs.configure(self._options.log_format, self._options.log_level)
        logging.getLogger("uvicorn.error").addFilter(_not_repeated)
        if not self.access_log:
            logging.getLogger("uvicorn.access").propagate = False

    def load(self) -> None:
        try:
            super().load()
        except OSError as error:  # the only files that uvicorn opens here
            raise ServerError(f"the TLS certificate or key cannot be used: {error}") from error


# uvicorn's arguments that are for the parent process: the socket is bound, and workers are watched, there.
_HANDLED_HERE = {"uds", "fd", "reload_dirs", "timeout_worker_healthcheck"}


def _not_repeated(record: logging.LogRecord) -> bool:
    """False for the line with which uvicorn ends a failed start: our own message says why it failed."""
    return record.msg != "Application startup failed. Exiting."


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it has started and is certain to end."""

    def __init__(
        self, config: _Config, application: ServedApplication, options: ServerOptions, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.guard = deadline.Guard()
        self._drain = application.drain
        self._drain.on_signal = lambda: self.guard.end_within(options.longest_stop)
        self._on_started = on_started
        self._protocol = config.protocol
        self._retiring: asyncio.Task[None] | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        run_to_end(self.serve(sockets), self.config.get_loop_factory())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError:
            await self.lifespan.shutdown()  # the application has started already
            raise
        if RETIRE is not None:
            loop = asyncio.get_running_loop()
            signal.signal(RETIRE, lambda _number, _frame: loop.call_soon_threadsafe(self._begin_retiring))
        self._on_started()

    def _begin_retiring(self) -> None:
        if self._retiring is None:
            self._retiring = asyncio.create_task(self._retire())

    async def _retire(self) -> None:
        """Leave new connections to others, answer those that are open, and stop.

        Nothing is refused meanwhile. A connection that has just been opened is about to send its first request, and one
        that is kept alive may be sending another, which is answered with `connection: close`.
        """
        patience = self._drain.timeout
        ends = asyncio.get_running_loop().time() + patience
        for server in self.servers:
            server.close()
        self._protocol.retiring = True
        await asyncio.sleep(min(_LAST_REQUESTS, patience))
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.shutdown()
        while self.server_state.connections and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110  # uvicorn's way
            await asyncio.sleep(0.05)
        self._drain.timeout = max(0.0, ends - asyncio.get_running_loop().time())
        signal.raise_signal(signal.SIGTERM)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._drain.begun:
            # wait_for, where this ends up, takes fractions of a second.
            self.config.timeout_graceful_shutdown = _LAST_CLIENTS  # type: ignore[assignment]
        await super().shutdown(sockets)
        self.guard.end_within(0.2 if self._drain.cut else 5.0)
