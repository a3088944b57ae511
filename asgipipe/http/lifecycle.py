"""Starting and stopping a deployment exactly once, whoever asks for it and however often."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from enum import Enum

from asgipipe.errors import UnavailableError, UserError

logger = logging.getLogger("asgipipe")

Work = Callable[[], Coroutine[object, object, None]]


class State(Enum):
    NEW = "new"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Lifecycle:
    """Enters `resources()` at the start and leaves it at the stop, both in one holder task.

    anyio's task groups, and whatever else a user's hook opens, must be left in the task that entered them, while start
    and stop may be asked for by different tasks. Concurrent starts share one attempt; after a failed one the next start
    tries again; each successful `start` needs its `stop`, and the last of those stops.

    `active` is the number of requests and of background jobs in progress, `jobs` that of the jobs, `ready` whether more
    may come. `on_drain` is called when a drain begins, and `on_abandon` before the runs are cancelled that are still in
    progress at its end.
    `connections` are what is told of a drain besides: a connection that would stay open for ever.
    """

    def __init__(
        self,
        resources: Callable[[], AbstractAsyncContextManager[object]],
        cancel_runs: Callable[[str], None],
        *,
        on_drain: Work | None = None,
        on_abandon: Work | None = None,
    ) -> None:
        self._resources = resources
        self._cancel_runs = cancel_runs
        self._on_drain = on_drain
        self._on_abandon = on_abandon
        self._draining: asyncio.Task[None] | None = None
        self.connections: set[Callable[[], None]] = set()
        self._holders = 0
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[object] | None = None
        self._stop: asyncio.Event | None = None
        self._idle: asyncio.Event | None = None
        self._reported: UserError | None = None
        self._stop_error: BaseException | None = None
        self.state = State.NEW
        self.ready = False
        self.draining = False
        self.active = 0
        self.jobs = 0

    @property
    def started(self) -> bool:
        return self.state is State.STARTED

    @property
    def held(self) -> bool:
        """True when somebody has called `start`, and so will call `stop`."""
        return self._holders > 0

    async def start(self) -> object:
        """Start unless that has happened, and return what the resources gave. Raises whatever the start raised."""
        value = await self.ensure_started()
        self._holders += 1
        return value

    async def ensure_started(self, context: Context | None = None) -> object:
        """Start, in `context` or that of the caller, without taking part in deciding about the stop."""
        if self._task is None or self._task.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._stop = asyncio.Event()
            self.state = State.STARTING
            holding = self._hold(self._ready, self._stop)
            self._task = asyncio.create_task(holding, name="asgipipe-lifecycle", context=context)
        if self._ready is None:
            raise AssertionError("a holder task has its future")
        return await asyncio.shield(self._ready)

    @property
    def stopping(self) -> bool:
        return self.draining or self.state in (State.STOPPING, State.STOPPED)

    async def start_on_request(self) -> None:
        """Start if need be: what the first request does under a host that sends no lifespan events.

        Raises UnavailableError when the start fails, which is logged once for each attempt, and when it is too late for
        one.
        """
        if self.stopping:
            raise UnavailableError("The server is stopping.")
        try:
            # What starts here outlives the request, so it has nothing of its context: neither its id nor its trace.
            await self.ensure_started(Context())
        except UserError as error:
            if error is not self._reported:
                self._reported = error
                logger.error("the deployment did not start: %s", error)
            raise UnavailableError("The deployment failed to start; its log says why.", retry_after=5) from None

    async def stop(self) -> None:
        """Give up one `start`; the last one stops the deployment and waits until everything is closed.

        Raises what something raised while it was closed; the rest was closed all the same.
        """
        self._holders = max(0, self._holders - 1)
        if self._holders or self._task is None or self._stop is None:
            return
        self._stop.set()
        await asyncio.wait([self._task])
        error, self._stop_error = self._stop_error, None
        if error is not None:
            raise error

    def begin_drain(self) -> None:
        """Be no longer ready; requests in progress go on, new work is refused. May be called in a signal handler."""
        self.draining = True
        self.ready = False
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.get_loop().call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        for tell in tuple(self.connections):
            tell()
        if self._on_drain is not None and self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._on_drain())

    async def drained(self) -> None:
        """Return when no request is in progress."""
        while self.active:
            if self._idle is None:
                self._idle = asyncio.Event()
            self._idle.clear()
            await self._idle.wait()

    def request_ended(self) -> None:
        if self._idle is not None and not self.active:
            self._idle.set()

    def job_began(self) -> None:
        self.active += 1
        self.jobs += 1

    def job_ended(self) -> None:
        self.active -= 1
        self.jobs -= 1
        self.request_ended()

    async def abandon(self) -> None:
        """Cancel the runs still in progress."""
        try:
            if self._on_abandon is not None:
                await self._on_abandon()
        finally:
            self._cancel_runs("the server is stopping")

    async def _hold(self, ready: "asyncio.Future[object]", stop: asyncio.Event) -> None:
        if self.draining:  # since before there was anything to drain, or in an earlier life
            self._draining = None
            self._drain()
        try:
            async with self._resources() as value:
                self.state = State.STARTED
                self.ready = not self.draining
                ready.set_result(value)
                await stop.wait()
                self.state = State.STOPPING
                self.ready = False
        except BaseException as error:  # boundary: it belongs to whoever started or, later, to the log
            self.ready = False
            if ready.done() and isinstance(error, asyncio.CancelledError):
                self.state = State.NEW  # nobody asked for it: the event loop ended, and the next one may start anew
            elif ready.done():
                self.state = State.STOPPED
                self._stop_error = error
            else:
                self.state = State.FAILED
                ready.set_exception(error)
                ready.exception()  # seen, also when every starter was cancelled
            if isinstance(error, asyncio.CancelledError):
                raise
            return  # SystemExit and KeyboardInterrupt would stop the event loop if they left a task
        self.state = State.STOPPED
