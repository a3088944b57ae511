"""What a run knows about itself, and the view of it that a step gets."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from asgipipe.errors import OutsideRunError, RunCanceled
from asgipipe.logs import id_sources
from asgipipe.pipelines.memory import Scope, StepMemory
from asgipipe.pipelines.observer import RunObserver, StepRecord, checked_metadata

if TYPE_CHECKING:
    from asgipipe.pipelines.executor import Call, ThreadExecutor

R = TypeVar("R")

_PATIENCE = 0.005
"""Seconds that a thread which waits leaves a step of its run to the other threads."""

EventListener = Callable[[str, str | None, Mapping[str, object]], None]
"""Receives (event type, step name, data) in the thread where the event happened."""


class DeploymentRecord(Protocol):
    """The part of a deployment that a step may look at."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class Environment:
    """What all runs of a deployment in this process share; `state` is what `on_init` returned."""

    def __init__(self, executor: "ThreadExecutor", deployment: DeploymentRecord | None = None) -> None:
        self.executor = executor
        self.deployment = deployment
        self.state: object = None


class Status(Enum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELED = "canceled"


class Run:
    """One execution of a pipeline, and what came of it.

    `parameters` are the validated arguments; `parameters_json` is written before the pipeline can change them, and
    `outputs_json` when it completed: both are JSON texts of objects. `error` is the exception of a run that did not
    complete. `listener`, when there is one, receives every event; without it events cost nothing. `deadline` is in
    seconds of the monotonic clock, `timeout` in seconds from the start. `abandoned` is True while threads still work on
    a run that nobody waits for; `on_thread_end` is then called when the last of them has ended.

    A listener that was told too much sets `room`: async code that tells it more awaits that first. `observer`, when
    there is one, looks on at the steps.
    """

    # Defaults live in the class, so that a run pays for none that it does not need; what every run or step looks at is
    # set on the object, where Python 3.11 finds it in a tenth of the time.
    status = Status.FAILED
    error: BaseException | None = None
    execution_time = 0.0
    on_thread_end: Callable[[], None] | None = None
    children: "dict[Future[object], Call[object] | None] | None" = None  # `adopt` makes it, by `setdefault`
    deadline: float | None = None
    timeout = 0.0
    on_cancel: Callable[[], object] | None = None
    parameters_json = b"{}"
    room: Callable[[], Awaitable[None]] | None = None
    _cancelled: threading.Event | None = None
    _changed: threading.Condition | None = None

    def __init__(
        self,
        id: str,
        name: str,
        parameters: dict[str, object],
        environment: Environment,
        listener: EventListener | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.parameters = parameters
        self.environment = environment
        self.listener = listener
        self.outputs_json: bytes | None = None
        self.abandoned = False
        self.cancel_reason: str | None = None
        self.inline = False
        self.memory: StepMemory | None = None
        self.observer: RunObserver | None = None

    @property
    def scope(self) -> Scope:
        """The scope of the steps that the pipeline itself calls, in a run with a memory."""
        found: Scope | None = self.__dict__.get("_scope")
        if found is None:
            assert self.memory is not None
            # Several threads may do this at once, and setdefault of a dict is one step for all of them.
            found = self.__dict__.setdefault("_scope", Scope(self.memory))
        return found

    @property
    def executor(self) -> "ThreadExecutor":
        return self.environment.executor

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.environment.executor.loop

    def checkpoint(self) -> None:
        """Raise RunCanceled when the run was cancelled: the step boundary."""
        if self.cancel_reason is not None:
            raise RunCanceled(self.cancel_reason)

    def cancel(self, reason: str) -> None:
        """Ask the run to end at its next await or step boundary; call it on the event loop's thread."""
        if self.cancel_reason is not None:
            return
        self.cancel_reason = reason
        if self._cancelled is not None:
            self._cancelled.set()
        for child in tuple(self.children or ()):
            child.cancel()
        if self.on_cancel is not None:
            self.on_cancel()

    def adopt(self, child: "Future[object]", call: "Call[object] | None" = None) -> None:
        """Tie a submitted step to this run: it is cancelled with the run, and the run does not end before it.

        A sync step is given with the `call` that is about to wait for a thread.
        """
        # Several threads may do this at once, and setdefault of a dict is one step for all of them.
        children = self.__dict__.setdefault("children", {})
        children[child] = call
        child.add_done_callback(lambda done: children.pop(done, None))
        if self.cancel_reason is not None:
            child.cancel()
        if call is not None and self._changed is not None:
            with self._changed:
                self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait in a worker thread, not longer than until the run is cancelled."""
        cancelled: threading.Event = self.__dict__.setdefault("_cancelled", threading.Event())
        if self.cancel_reason is None:
            cancelled.wait(seconds)
        self.checkpoint()

    def wait_for(self, function: Callable[[], Awaitable[object]]) -> object:
        """Call `function` on the run's event loop and await what it returns, from a worker thread."""

        async def call() -> object:
            return await function()

        child = asyncio.run_coroutine_threadsafe(call(), self.loop)
        self.adopt(child)
        return self.join(child)

    def join(self, child: "Future[R]", timeout: float | None = None) -> R:
        """Wait in a worker thread for a child, `timeout` seconds at most (TimeoutError), and return its result.

        Steps of this run for which no thread was free are run here meanwhile: so a run never waits for a thread that is
        its own. Raises RunCanceled when the child was cancelled with its run.
        """
        changed: threading.Condition = self.__dict__.setdefault("_changed", threading.Condition())
        end = None if timeout is None else monotonic() + timeout

        def tell(_: "Future[R]") -> None:
            with changed:
                changed.notify_all()

        child.add_done_callback(tell)
        while not child.done() and (end is None or monotonic() < end):
            with changed:
                left = None if end is None else end - monotonic()
                changed.wait_for(lambda: child.done() or self._waiting_call(), left)
                changed.wait_for(child.done, _PATIENCE)
            call = None if child.done() else self._waiting_call()
            if call is not None:
                call.execute()
        try:
            return child.result(0)
        except CancelledError:  # unlike asyncio's and ours it is an Exception, which pipelines may swallow
            self.checkpoint()
            raise

    def _waiting_call(self) -> "Call[object] | None":
        calls = tuple((self.children or {}).values())
        return next((call for call in calls if call is not None and not call.begun), None)

    def wait_until_kept(self, kept: "Future[None]") -> None:
        """Wait in a thread until a step's result is durable. Raises RunCanceled when it will never be."""
        self.adopt(cast("Future[object]", kept))
        try:
            kept.result()
        except CancelledError:
            raise RunCanceled(self.cancel_reason or "this attempt of the job is over") from None

    async def settle(self, *, cancel: bool) -> None:
        """Wait for the submitted steps that nobody waited for; with `cancel`, those that can be are cancelled first.

        Raises RunCanceled as soon as the run is cancelled, and leaves the threads behind that are still at work.
        """
        try:
            while self.children:
                children = tuple(self.children)
                if cancel:
                    for child in children:
                        child.cancel()
                self.checkpoint()
                waiter = self.loop.create_future()
                self.on_cancel = partial(wake, waiter)
                children[0].add_done_callback(partial(_wake_threadsafe, self.loop, waiter))
                await waiter
        finally:
            self.on_cancel = None


def wake(waiter: "asyncio.Future[R | None]") -> None:
    """Give None to whoever awaits `waiter`, unless there is something for them already."""
    if not waiter.done():
        waiter.set_result(None)


def _wake_threadsafe(loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]", _: "Future[object]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
        loop.call_soon_threadsafe(wake, waiter)


class StepContext:
    """A running step's view of its run; `step_name` is None in the body of the pipeline itself."""

    __slots__ = ("_record", "run", "step_name")

    def __init__(self, run: Run, step_name: str | None, record: StepRecord | None = None) -> None:
        self.run = run
        self.step_name = step_name
        self._record = record

    @property
    def run_id(self) -> str:
        return self.run.id

    @property
    def run_name(self) -> str:
        return self.run.name

    @property
    def parameters(self) -> Mapping[str, object]:
        """Every parameter of the run, defaults included."""
        return self.run.parameters

    @property
    def deployment(self) -> DeploymentRecord | None:
        return self.run.environment.deployment

    @property
    def pipeline_state(self) -> object:
        """What `on_init` returned in this process, or None."""
        return self.run.environment.state

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled or its deadline passed; long loops should look and return."""
        return self.run.cancel_reason is not None

    def progress(self, fraction: float, message: str = "") -> None:
        """Report progress; `fraction` lies between 0 and 1."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction between 0 and 1, not {fraction!r}")
        if self.run.listener is not None:
            data = {"fraction": float(fraction), "message": message, "step_name": self.step_name}
            self.run.listener("progress", self.step_name, data)

    def add_metadata(self, data: Mapping[str, object]) -> None:
        """Have `data` recorded with the step, or with the run in the body of the pipeline, where metadata is captured.

        It is laid over what was added before. Raises ValueError for what JSON cannot hold, and beyond 64 KiB of it.
        """
        if self._record is not None:
            self._record.metadata = checked_metadata(self._record.metadata, data)
        elif self.run.observer is not None and self.step_name is None:
            self.run.observer.add_metadata(data)
        else:
            checked_metadata(None, data)

    def emit(self, delta: object) -> None:
        """Send a piece of output to whoever follows the run, as an `output_delta` event; `delta` needs a JSON form."""
        if self.run.listener is not None:
            self.run.listener("output_delta", self.step_name, {"delta": delta})


Here = tuple[Run, str | None] | tuple[Run, str | None, StepRecord]
"""A run, the name of a step, and what is recorded of it: a tuple, because every step makes one and few ever look."""

current: ContextVar[Here | None] = ContextVar("asgipipe_step", default=None)
"""The run and the step that is running here."""


def _run_id() -> str | None:
    context = current.get()
    return None if context is None else context[0].id


id_sources["run_id"] = _run_id


def get_step_context() -> StepContext:
    """Return the context of the step that is running here.

    Raises OutsideRunError when the caller was called as a plain function, outside a run.
    """
    context = current.get()
    if context is None:
        raise OutsideRunError("get_step_context() was called outside a run; call the pipeline through a deployment")
    return StepContext(*context)
