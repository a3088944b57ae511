"""What `asgipipe serve` does: plan, bind the address, then serve in this process, or in workers of one of two kinds.

one worker, uvicorn     in this process
several, or reloading   processes of our own supervisor, each a new interpreter
gunicorn                this process becomes gunicorn's, which forks its workers
"""

import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from asgipipe import logs
from asgipipe.servers import banner, sockets
from asgipipe.servers import specification as specifications
from asgipipe.servers.application import Plan, build, plan
from asgipipe.servers.banner import Announcement
from asgipipe.servers.options import ServerOptions, server_options
from asgipipe.servers.readiness import ReadyFile, ready_file
from asgipipe.servers.specification import Specification

logger = logging.getLogger("asgipipe.servers")

_HEALTH_CHECK = 60.0
"""Seconds that a worker may hold the interpreter lock before it is replaced."""


def run(specification: Specification) -> int:
    """Serve what `specification` names until told to stop; return the exit status.

    Raises UserError for every mistake that keeps the server from starting.
    """
    with ready_file() as ready:
        return _run(specification, ready)


def _run(specification: Specification, ready: ReadyFile) -> int:
    from asgipipe.servers import handover

    received = handover.received()
    if received is not None:
        from asgipipe.servers.gunicorn import run as run_gunicorn

        return run_gunicorn(received, ready)
    specification = replace(specification, generated_key=secrets.token_urlsafe(32))
    plans = plan(specification)
    options = server_options([each.settings for each in plans], [each.name for each in plans])
    logs.configure(options.log_format, options.log_level)
    with sockets.bound(options) as listener:
        announcement = _announcement(specification, plans, options, listener)
        if options.server == "gunicorn":
            ready.leave_to_next()
            return _become_gunicorn(specification, plans, options, listener, announcement)

        def on_ready() -> None:
            banner.announce(announcement, options)
            ready.write()

        if options.workers > 1 or options.reload:
            return supervise(specification, plans, options, listener, on_ready)
        from asgipipe.servers.uvicorn import serve

        application = build(specification, plans)
        return serve(application, options, listener, on_ready)


def _announcement(
    specification: Specification, plans: Sequence[Plan], options: ServerOptions, listener: socket.socket
) -> Announcement:
    for each in plans:
        _ = each.loaded.pipeline.contract  # what cannot be served is said once, here, not by every worker
    key = specification.generated_key
    used = any(key in each.auth_keys for each in plans)
    return banner.announcement(plans, options, sockets.origin(listener, options), key if used else None)


def supervise(
    specification: Specification,
    plans: Sequence[Plan],
    options: ServerOptions,
    listener: socket.socket | None,
    on_ready: Callable[[], None],
) -> int:
    """Run the workers of a command until it is told to stop; return the exit status. Raises ServerError."""
    from asgipipe.servers.reload import watched_changes
    from asgipipe.servers.supervisor import Supervisor

    with specifications.private_directory() as folder:
        specifications.share(specification, folder)
        supervisor = Supervisor(
            options,
            listener,
            health_check=float(options.uvicorn.get("timeout_worker_healthcheck", _HEALTH_CHECK)),
            failure=lambda: specifications.reported_failure(str(folder)),
            on_ready=on_ready,
        )
        if not options.reload:
            return supervisor.run()
        with watched_changes(_watched(specification, plans, options), supervisor.changed):
            return supervisor.run()


def _watched(specification: Specification, plans: Sequence[Plan], options: ServerOptions) -> list[Path]:
    folders = options.uvicorn.get("reload_dirs") or [each.loaded.source_root for each in plans]
    files = [specification.config_file] if specification.config_file else []
    return [Path(place).resolve() for place in ([folders] if isinstance(folders, str) else folders) + files]


def _become_gunicorn(
    specification: Specification,
    plans: Sequence[Plan],
    options: ServerOptions,
    listener: socket.socket,
    announcement: Announcement,
) -> int:
    from asgipipe.servers import handover
    from asgipipe.servers.gunicorn_settings import checked_gunicorn_settings

    checked_gunicorn_settings(options)
    with specifications.private_directory() as folder:
        specifications.share(specification, folder)
        return handover.replace_this_process(options, listener, announcement, folder)
