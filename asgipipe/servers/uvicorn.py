"""Serving with uvicorn: in this process, or in workers that this process looks after.

Exit status: 0 after a clean end, also by SIGTERM or ctrl-C (uvicorn itself would end by the signal, which some service
managers take for a failure); 1 when requests or hooks were cut short; 3 when the server did not start.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from asgipipe import logs
from asgipipe.errors import ServerError
from asgipipe.pipelines.execution import traceback_of
from asgipipe.servers import banner, deadline, sockets
from asgipipe.servers import specification as specifications
from asgipipe.servers.application import Plan, ServedApplication, build, plan
from asgipipe.servers.options import ServerOptions, server_options
from asgipipe.servers.protocol import bounded_protocol
from asgipipe.servers.specification import Specification

logger = logging.getLogger("asgipipe.servers")

_LAST_CLIENTS = 0.2
"""Seconds that clients have to take their last bytes when everything was drained or cut."""

_WEBSOCKET_MESSAGE = 1024 * 1024
"""Bytes of the longest WebSocket message."""

_HEALTH_CHECK = 60.0
"""Seconds that a worker may hold the interpreter lock before it is replaced."""


def run(specification: Specification) -> int:
    """Serve what `specification` names until told to stop; return the exit status.

    Raises UserError for every mistake that keeps the server from starting.
    """
    specification = replace(specification, generated_key=secrets.token_urlsafe(32))
    plans = plan(specification)
    options = server_options([each.settings for each in plans], [each.name for each in plans])
    logs.configure(options.log_format, options.log_level)
    with sockets.bound(options) as listener:
        if options.workers > 1 or options.reload:
            return _supervise(specification, plans, options, listener)
        application = build(specification, plans)
        return serve(application, options, listener, lambda: _announce(specification, plans, options, listener))


def _announce(
    specification: Specification, plans: Sequence[Plan], options: ServerOptions, listener: socket.socket
) -> None:
    key = specification.generated_key
    used = any(key in each.auth_keys for each in plans)
    banner.announce(plans, options, sockets.origin(listener, options), key if used else None)


def _supervise(
    specification: Specification, plans: Sequence[Plan], options: ServerOptions, listener: socket.socket
) -> int:
    from asgipipe.servers.reload import watched_changes
    from asgipipe.servers.supervisor import Supervisor, Timings

    for each in plans:
        _ = each.loaded.pipeline.contract  # what cannot be served is said once, here, not by every worker
    with specifications.private_directory() as folder:
        metrics = folder / "metrics"
        metrics.mkdir(mode=0o700)
        specification = replace(specification, directory=str(folder), metrics_directory=str(metrics))
        specifications.write(specification)
        timings = Timings(
            health_check=float(options.uvicorn.get("timeout_worker_healthcheck", _HEALTH_CHECK)),
            stop=options.drain_timeout + options.stop_timeout + 2.0,
        )
        supervisor = Supervisor(
            options,
            listener,
            timings,
            failure=lambda: specifications.reported_failure(str(folder)),
            on_ready=lambda: _announce(specification, plans, options, listener),
        )
        if not options.reload:
            return supervisor.run()
        with watched_changes(_watched(specification, plans, options), supervisor.changed):
            return supervisor.run()


def _watched(specification: Specification, plans: Sequence[Plan], options: ServerOptions) -> list[Path]:
    folders = options.uvicorn.get("reload_dirs") or [each.loaded.source_root for each in plans]
    files = [specification.config_file] if specification.config_file else []
    return [Path(place).resolve() for place in ([folders] if isinstance(folders, str) else folders) + files]


def serve(
    application: ServedApplication, options: ServerOptions, listener: socket.socket, on_started: Callable[[], None]
) -> int:
    """Serve `application` in this process until told to stop; return the exit status.

    Raises the UserError that kept the application from starting.
    """
    application.reports_failure = True
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
        others = {name: value for name, value in options.uvicorn.items() if name not in _HANDLED_HERE}
        defaults = {"access_log": False, "ws_max_size": _WEBSOCKET_MESSAGE} | others
        super().__init__(
            application,
            interface="asgi3",
            lifespan="on",
            http=bounded_protocol(options.limits),
            server_header=False,
            workers=1,
            timeout_graceful_shutdown=round(options.drain_timeout),
            **defaults,
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
        self._drain.on_signal = lambda: self.guard.end_within(options.drain_timeout + options.stop_timeout + 2.0)
        self._on_started = on_started

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, also after a task or a callback of the application's own raised SystemExit or KeyboardInterrupt.

        Those two pass every task boundary of asyncio's and end the event loop's run, from whatever task they come.
        """
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            loop = runner.get_loop()
            main = loop.create_task(self.serve(sockets))
            while not main.done():
                try:
                    loop.run_until_complete(main)
                except (SystemExit, KeyboardInterrupt) as error:
                    if not main.done():
                        logger.error("a task raised what ends a process, which goes on\n%s", traceback_of(error))
            main.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError:
            await self.lifespan.shutdown()  # the application has started already
            raise
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._drain.begun:
            # wait_for, where this ends up, takes fractions of a second.
            self.config.timeout_graceful_shutdown = _LAST_CLIENTS  # type: ignore[assignment]
        await super().shutdown(sockets)
        self.guard.end_within(0.2 if self._drain.cut else 5.0)
