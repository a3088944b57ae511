"""Running a pipeline once: in place, in a thread, or on the event loop, with its deadline."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from enum import Enum
from functools import partial
from typing import cast

from asgipipe.errors import OutputError, RunCanceled, RunTimeoutError
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

    status = Status.FAILED
    parameters_json = b"{}"
    outputs_json: bytes | None = None
    error: BaseException | None = None
    execution_time = 0.0
    abandoned = False
    on_thread_end: Callable[[], None] | None = None

    def __init__(self, run_id: str, run_name: str) -> None:
        self.run_id = run_id
        self.run_name = run_name


Executable = Callable[[Run, Outcome], Awaitable[None]]
"""Runs the pipeline and fills in the outcome."""


class Execution:
    """How the runs of one pipeline are executed; `on_abandoned_end` is told when an abandoned thread has ended."""

    def __init__(self, pipeline: Pipeline[..., object], on_abandoned_end: Callable[[Run, Outcome], None]) -> None:
        self._streams = pipeline.kind.streams
        self._text = pipeline.kind.streams and pipeline.text
        self._call = pipeline.contract.caller(pipeline.function)
        self._dump_parameters = pipeline.contract.dump_parameters
        self._dump_outputs = pipeline.contract.dump_outputs
        self._on_abandoned_end = on_abandoned_end
        if pipeline.kind.is_async:
            self.execute: Executable = self._on_loop
        elif pipeline.blocking:
            self.execute = self._in_thread
        else:
            self.execute = self._in_place

    async def _on_loop(self, run: Run, outcome: Outcome) -> None:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        run.on_cancel = task.cancel
        token = current.set(StepContext(run, None))
        try:
            run.parameters_json = outcome.parameters_json = self._dump_parameters(run.parameters)
            value = self._call(run.parameters)
            if self._streams:
                value = await drain_async(cast("AsyncGenerator[object, None]", value), run, self._text, None)
            else:
                value = await cast(Awaitable[object], value)
            if run.children:
                await run.settle(cancel=False)
            run.on_cancel = None
            outcome.outputs_json = self._dump_outputs(value)
            outcome.status = Status.COMPLETED
        except asyncio.CancelledError as error:
            if not _is_ours(run, task):
                raise
            _fail(run, outcome, error)
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            _fail(run, outcome, error)
        finally:
            run.on_cancel = None
            current.reset(token)
            if run.children:
                await run.settle(cancel=True)

    async def _in_place(self, run: Run, outcome: Outcome) -> None:
        run.inline = True
        try:
            outcome.outputs_json = self._work(run)
            outcome.status = Status.COMPLETED
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            _fail(run, outcome, error)
        outcome.parameters_json = run.parameters_json or b"{}"
        if run.children:
            await run.settle(cancel=outcome.status is not Status.COMPLETED)

    async def _in_thread(self, run: Run, outcome: Outcome) -> None:
        waiter: asyncio.Future[Call[bytes] | None] = run.loop.create_future()

        def end(call: Call[bytes]) -> None:
            if not waiter.done():
                waiter.set_result(call)
            elif outcome.abandoned:
                self._on_abandoned_end(run, outcome)

        def give_up() -> None:
            if not waiter.done():
                waiter.set_result(None)

        call = run.executor.submit(partial(self._work, run), end)
        run.on_cancel = give_up
        try:
            ended = await waiter
        except asyncio.CancelledError:
            call.abandoned = outcome.abandoned = True
            run.cancel("the request was cancelled")
            raise
        finally:
            run.on_cancel = None
        if ended is None:
            call.abandoned = outcome.abandoned = True
            outcome.parameters_json = run.parameters_json or self._dump_parameters(run.parameters)
            _fail(run, outcome, RunCanceled(run.cancel_reason))
            return
        outcome.parameters_json = run.parameters_json or b"{}"
        if ended.error is not None:
            _fail(run, outcome, ended.error)
        else:
            outcome.outputs_json = ended.value
            outcome.status = Status.COMPLETED
        if run.children:
            await run.settle(cancel=outcome.status is not Status.COMPLETED)

    def _work(self, run: Run) -> bytes:
        """Run a sync pipeline in the thread that calls; return the JSON of its outputs."""
        token = current.set(StepContext(run, None))
        try:
            run.parameters_json = self._dump_parameters(run.parameters)
            value = self._call(run.parameters)
            if self._streams:
                value = drain(cast("Generator[object, None, None]", value), run, self._text, None)
            return self._dump_outputs(value)
        finally:
            current.reset(token)


def _fail(run: Run, outcome: Outcome, error: BaseException) -> None:
    outcome.outputs_json = None
    if run.cancel_reason == TIMEOUT:
        outcome.status = Status.TIMED_OUT
        outcome.error = RunTimeoutError(run.timeout)
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
