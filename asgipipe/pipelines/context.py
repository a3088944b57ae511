"""What a run knows about itself, and the view of it that a step gets."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from asgipipe.errors import OutsideRunError, RunCanceled
from asgipipe.logs import id_sources

if TYPE_CHECKING:
    from asgipipe.pipelines.executor import ThreadExecutor

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
    `outputs_json` when it completed: both are JSON texts of objects. `error` is the exception of a run that did not complete.
    `listener`, when there is one, receives every event; without it events cost nothing. `deadline` is in seconds of the
    monotonic clock, `timeout` in seconds from the start. `abandoned` is True while a thread still works on a run that nobody
    waits for; `on_thread_end` is then called when that thread has ended.
    """

    # Defaults live in the class: a run that needs none of them pays for none of them.
    status = Status.FAILED
    outputs_json: bytes | None = None
    error: BaseException | None = None
    execution_time = 0.0
    abandoned = False
    on_thread_end: Callable[[], None] | None = None
    cancel_reason: str | None = None
    children: set[Future[object]] | None = None
    deadline: float | None = None
    timeout = 0.0
    inline = False
    on_cancel: Callable[[], object] | None = None
    parameters_json = b"{}"
    _sleepers: threading.Event | None = None

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
        if self._sleepers is not None:
            self._sleepers.set()
        for child in tuple(self.children or ()):
            child.cancel()
        if self.on_cancel is not None:
            self.on_cancel()

    def adopt(self, child: "Future[object]") -> None:
        """Tie a submitted step to this run: it is cancelled with the run, and the run does not end before it."""
        if self.children is None:
            self.children = set()
        self.children.add(child)
        child.add_done_callback(self.children.discard)
        if self.cancel_reason is not None:
            child.cancel()

    def sleep(self, seconds: float) -> None:
        """Wait in a worker thread, not longer than until the run is cancelled."""
        if self._sleepers is None:
            self._sleepers = threading.Event()
        if self.cancel_reason is None:
            self._sleepers.wait(seconds)
        self.checkpoint()

    def wait_for(self, awaitable: Awaitable[object]) -> object:
        """Await something on the run's event loop from a worker thread."""

        async def forward() -> object:
            return await awaitable

        child = asyncio.run_coroutine_threadsafe(forward(), self.loop)
        self.adopt(child)
        return child.result()

    async def settle(self, *, cancel: bool) -> None:
        """Wait for the submitted steps that nobody waited for; with `cancel`, those that can be are cancelled first."""
        while self.children:
            children = tuple(self.children)
            if cancel:
                for child in children:
                    child.cancel()
            await asyncio.wait([asyncio.wrap_future(child) for child in children])


class StepContext:
    """A running step's view of its run; `step_name` is None in the body of the pipeline itself."""

    __slots__ = ("run", "step_name")

    def __init__(self, run: Run, step_name: str | None) -> None:
        self.run = run
        self.step_name = step_name

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

    def emit(self, delta: object) -> None:
        """Send a piece of output to whoever follows the run, as an `output_delta` event; `delta` needs a JSON form."""
        if self.run.listener is not None:
            self.run.listener("output_delta", self.step_name, {"delta": delta})


current: ContextVar[tuple[Run, str | None] | None] = ContextVar("asgipipe_step", default=None)
"""The run and the name of the step that is running here: a pair, because every step sets it and few ever look."""


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
