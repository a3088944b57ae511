"""Running a pipeline once: in place, in a thread, or on the event loop, with its deadline."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Generator
from enum import Enum
from typing import Protocol, cast

from asgipipe.errors import OutputError, RunCanceled, RunTimeoutError
from asgipipe.pipelines.callables import Kind
from asgipipe.pipelines.context import Run, StepContext, current
from asgipipe.pipelines.executor import Call
from asgipipe.pipelines.pipeline import Pipeline
from asgipipe.pipelines.step import drain, drain_async

TIMEOUT = "timeout"
"""The cancel reason of a run whose deadline passed."""


class Status(Enum):
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELED = "canceled"


class Outcome:
    """What one run came to.

    `parameters_json` and `outputs_json` are JSON texts of objects; `outputs_json` is None unless the run completed.
    `error` is the exception of a run that did not. `abandoned` is True while a thread still works on a run that nobody waits
    for; `on_thread_end` is then called when that thread has ended.
    """

    __slots__ = (
        "abandoned",
        "error",
        "execution_time",
        "on_thread_end",
        "outputs_json",
        "parameters_json",
        "run_id",
        "run_name",
        "status",
    )

    def __init__(self, run_id: str, run_name: str) -> None:
        self.run_id = run_id
        self.run_name = run_name
        self.status = Status.FAILED
        self.parameters_json = b"{}"
        self.outputs_json: bytes | None = None
        self.error: BaseException | None = None
        self.execution_time = 0.0
        self.abandoned = False
        self.on_thread_end: Callable[[], None] | None = None


class Executable(Protocol):
    """Runs the pipeline and fills in the outcome; returns True when a thread still works on an abandoned run."""

    def __call__(self, run: Run, outcome: Outcome, timeout: float | None) -> Awaitable[bool]: ...


class Execution:
    """How the runs of one pipeline are executed; `on_abandoned_end` is told when an abandoned thread has ended."""

    def __init__(self, pipeline: Pipeline[..., object], on_abandoned_end: Callable[[Run, Outcome], None]) -> None:
        self._pipeline = pipeline
        self._contract = pipeline.contract
        self._on_abandoned_end = on_abandoned_end
        if pipeline.kind.is_async:
            self.execute: Executable = self._on_loop
        elif pipeline.blocking:
            self.execute = self._in_thread
        else:
            self.execute = self._in_place

    async def _on_loop(self, run: Run, outcome: Outcome, timeout: float | None) -> bool:
        task = run.task = cast("asyncio.Task[object]", asyncio.current_task())
        handle = None if timeout is None else run.loop.call_later(timeout, run.cancel, TIMEOUT)
        token = current.set(StepContext(run, None))
        try:
            outcome.parameters_json = self._contract.dump_parameters(run.parameters)
            value = await self._await_value(run)
            if run.children:
                await run.settle(cancel=False)
            run.task = None
            outcome.outputs_json = self._contract.dump_outputs(value)
            outcome.status = Status.COMPLETED
        except asyncio.CancelledError as error:
            if not _is_ours(run, task):
                raise
            self._fail(run, outcome, error, timeout)
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            self._fail(run, outcome, error, timeout)
        finally:
            run.task = None
            current.reset(token)
            if handle is not None:
                handle.cancel()
            if run.children:
                await run.settle(cancel=True)
        return False

    async def _await_value(self, run: Run) -> object:
        value = self._contract.call(self._pipeline.function, run.parameters)
        if self._pipeline.kind is Kind.ASYNC_GENERATOR:
            return await drain_async(value, run, self._pipeline.text, None)  # type: ignore[arg-type]  # by its kind
        return await cast(Awaitable[object], value)

    async def _in_place(self, run: Run, outcome: Outcome, timeout: float | None) -> bool:
        run.inline = True
        self._work(run, outcome)
        if run.children:
            await run.settle(cancel=outcome.status is not Status.COMPLETED)
        return False

    async def _in_thread(self, run: Run, outcome: Outcome, timeout: float | None) -> bool:
        loop = run.loop
        waiter: asyncio.Future[Call[None] | None] = loop.create_future()

        def end(call: Call[None]) -> None:
            if waiter.done():
                self._on_abandoned_end(run, outcome)
            else:
                waiter.set_result(call)

        def give_up() -> None:
            if not waiter.done():
                waiter.set_result(None)

        # The thread fills in an outcome of its own, so that one which ends late cannot touch an answer already given.
        late = Outcome(run.id, run.name)
        call = run.executor.submit(lambda: self._work(run, late), end)
        run.on_cancel = give_up
        handle = None if timeout is None else loop.call_later(timeout, run.cancel, TIMEOUT)
        try:
            ended = await waiter
        except asyncio.CancelledError:
            call.abandoned = True
            run.cancel("the request was cancelled")
            raise
        finally:
            if handle is not None:
                handle.cancel()
        if ended is None:
            call.abandoned = True
            outcome.parameters_json = self._contract.dump_parameters(run.parameters)
            self._fail(run, outcome, RunCanceled(run.cancel_reason), timeout)
            return True
        outcome.parameters_json = late.parameters_json
        outcome.outputs_json = late.outputs_json
        outcome.status = late.status
        outcome.error = late.error
        if run.children:
            await run.settle(cancel=outcome.status is not Status.COMPLETED)
        return False

    def _work(self, run: Run, outcome: Outcome) -> None:
        """Run a sync pipeline in the thread that calls."""
        token = current.set(StepContext(run, None))
        try:
            outcome.parameters_json = self._contract.dump_parameters(run.parameters)
            value = self._contract.call(self._pipeline.function, run.parameters)
            if self._pipeline.kind is Kind.GENERATOR:
                items = cast(Generator[object, None, None], value)
                value = drain(items, run, self._pipeline.text, None)
            outcome.outputs_json = self._contract.dump_outputs(value)
            outcome.status = Status.COMPLETED
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            self._fail(run, outcome, error, None)
        finally:
            current.reset(token)

    @staticmethod
    def _fail(run: Run, outcome: Outcome, error: BaseException, timeout: float | None) -> None:
        outcome.outputs_json = None
        if run.cancel_reason == TIMEOUT:
            outcome.status = Status.TIMED_OUT
            outcome.error = RunTimeoutError(timeout or 0.0)
        elif run.cancel_reason is not None:
            outcome.status = Status.CANCELED
            outcome.error = RunCanceled(run.cancel_reason)
        else:
            outcome.status = Status.FAILED
            outcome.error = error


def _is_ours(run: Run, task: "asyncio.Task[object]") -> bool:
    """Tell a CancelledError that means this run (or that user code raised itself) from one that means our caller."""
    if run.cancel_reason is not None:
        return task.uncancel() <= 0
    return task.cancelling() == 0


def message_of(error: BaseException | None, limit: int = 2000) -> str:
    """Return the message of an exception, at most `limit` characters long; whatever `str(error)` does."""
    if isinstance(error, RunCanceled):
        return f"the run was cancelled: {error.args[0]}"
    try:
        text = str(error)
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = ""
    if isinstance(error, OutputError | RunTimeoutError) or text.strip():
        return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
    return "the pipeline failed without a message"


def traceback_of(error: BaseException, limit: int = 7000) -> str:
    """Return the traceback as text for the log, at most `limit` characters: its beginning and its end."""
    try:
        text = "".join(traceback.format_exception(error, limit=-30))
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = f"{type(error).__name__}, whose message cannot be shown"
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… {len(text) - limit} characters left out …\n{text[-limit // 2 :]}"
