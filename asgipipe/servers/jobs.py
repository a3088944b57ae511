"""What `asgipipe worker` does: the deployments of `asgipipe serve` without the server, in one process or in several.

There is no HTTP: a worker has no address, and who wants to know whether it lives asks the service manager that started
it. Everything else is the server's: the supervisor of several workers, reloading, the drain, the exit status.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType

import click
import uvicorn

from asgipipe import __version__, logs
from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.http.types import Message
from asgipipe.servers import banner, deadline
from asgipipe.servers.application import Plan, ServedApplication, build, plan
from asgipipe.servers.banner import Announcement
from asgipipe.servers.command import supervise
from asgipipe.servers.drain import RETIRE
from asgipipe.servers.loop import run_to_end
from asgipipe.servers.options import ServerOptions, server_options
from asgipipe.servers.specification import Specification
from asgipipe.settings.stores import MEMORY, shown
from asgipipe.stores.registry import DEFAULT

logger = logging.getLogger("asgipipe.servers")


def run(specification: Specification) -> int:
    """Run the jobs of what `specification` names until told to stop; return the exit status.

    Raises UserError for every mistake that keeps the workers from starting.
    """
    # The settings are often those of a server that leaves the jobs to this command.
    specification = replace(specification, values={**specification.values, "run_jobs": "true"})
    plans = plan(specification)
    _refuse_memory(plans)
    options = server_options([each.settings for each in plans], [each.name for each in plans])
    logs.configure(options.log_format, options.log_level)
    for each in plans:
        _ = each.loaded.pipeline.contract  # what cannot be run is said once, here, not by every worker
    on_ready = partial(banner.announce, _announcement(plans, options), options)
    if options.workers > 1 or options.reload:
        return supervise(specification, plans, options, None, on_ready)
    return run_jobs(build(specification, plans), options, on_ready)


def run_jobs(
    application: ServedApplication,
    options: ServerOptions,
    on_started: Callable[[], None],
    *,
    supervised: bool = False,
) -> int:
    """Run jobs in this process until it is told to stop; return the exit status.

    A `supervised` process is a worker: its parent alone says when it stops. Raises the UserError that kept the
    application from starting.
    """
    application.reports_failure = True
    application.drain.supervised = supervised
    application.drain.timeout = options.drain_timeout
    config = uvicorn.Config(application, loop=options.uvicorn.get("loop", "auto"), log_config=None)
    with deadline.Guard() as guard:
        application.drain.on_signal = lambda: guard.end_within(options.longest_stop)
        run_to_end(_live(application, on_started, guard), config.get_loop_factory())
    if application.failure is not None:
        raise application.failure
    return 1 if application.unclean else 0


async def _live(application: ServedApplication, on_started: Callable[[], None], guard: deadline.Guard) -> None:
    """Start the application, and stop it when the process is told to and has drained."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    events = iter(("startup", "shutdown"))

    def told(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop.set)

    async def receive() -> Message:
        event = next(events)
        if event == "shutdown":
            await stop.wait()
        return {"type": f"lifespan.{event}"}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            on_started()

    # The drain stands in front of these handlers, and passes the signal on when nothing runs any more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    if application.drain.supervised and RETIRE is not None:
        signal.signal(RETIRE, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))
    await application({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    guard.end_within(0.2 if application.drain.cut else 5.0)


def _refuse_memory(plans: Sequence[Plan]) -> None:
    if any(each.settings.store_url == MEMORY for each in plans):
        message = "jobs in the memory of a worker can be reached by nobody; give a file, or a PostgreSQL database"
        raise SettingsError([SettingsIssue("store_url", message)])


def _announcement(plans: Sequence[Plan], options: ServerOptions) -> Announcement:
    workers = f", {options.workers} workers" if options.workers > 1 else ""
    reload = ", reloading on changes" if options.reload else ""
    jobs = [f"{each.name}: jobs in {shown(each.settings.store_url) or DEFAULT}" for each in plans]
    title = click.style(f"asgipipe {__version__}", bold=True)
    text = "\n".join(
        ["", f"{title} runs jobs{workers}{reload}", "", *(f"  {line}" for line in jobs), "", "  Stop with ctrl-C.", ""]
    )
    return Announcement(text, [f"asgipipe {__version__} runs jobs{workers}{reload}", *jobs], ())
