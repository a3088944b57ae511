"""Running a pipeline once: in place, in a thread, or on the event loop, with its deadline."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future
from functools import partial
from typing import cast

from asgipipe.errors import OutputError, RunCanceled, RunTimeoutError
from asgipipe.logs import cut, traceback_lines
from asgipipe.pipelines.context import Run, Status, current, wake
from asgipipe.pipelines.executor import Call
from asgipipe.pipelines.pipeline import Pipeline
from asgipipe.pipelines.step import drain, drain_async

TIMEOUT = "timeout"
"""The cancel reason of a run whose deadline passed."""

_CALLER_GONE = "the request was cancelled"

_COMPLETED = Status.COMPLETED


Executable = Callable[[Run], Awaitable[None]]
"""Runs the pipeline and writes down what came of it."""


class Execution:
    """How the runs of one pipeline are executed; `on_abandoned_end` is told when an abandoned thread has ended."""

    def __init__(self, pipeline: Pipeline[..., object], on_abandoned_end: Callable[[Run], None]) -> None:
        self._streams = pipeline.kind.streams
        self._text = pipeline.kind.streams and pipeline.text
        self._call = pipeline.contract.by_name(pipeline.function)
        self._dump_parameters = pipeline.contract.dump_parameters
        self._dump_outputs = pipeline.contract.dump_outputs
        self._on_abandoned_end = on_abandoned_end
        if pipeline.kind.is_async:
            self.execute: Executable = self._on_loop
        elif pipeline.blocking:
            self.execute = self._in_thread
        else:
            self.execute = self._in_place

    async def _on_loop(self, run: Run) -> None:
        task: asyncio.Task[object] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine runs in a task
        run.on_cancel = task.cancel
        token = current.set((run, None))
        try:
            run.parameters_json = self._dump_parameters(run.parameters)
            value = self._call(**run.parameters)
            if self._streams:
                value = await drain_async(cast("AsyncGenerator[object, None]", value), run, self._text, None)
            else:
                value = await value  # type: ignore[misc]  # an async function's result
            if run.children:
                await run.settle(cancel=False)
            run.on_cancel = None
            run.outputs_json = self._dump_outputs(value)
            run.status = _COMPLETED
        except asyncio.CancelledError as error:
            run.on_cancel = None
            if not _is_ours(run, task):
                run.cancel(_CALLER_GONE)
                raise
            _fail(run, error)
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            _fail(run, error)
        finally:
            run.on_cancel = None
            current.reset(token)
            if run.children:
                await self._settle(run)

    async def _in_place(self, run: Run) -> None:
        run.inline = True
        try:
            run.outputs_json = self._work(run)
            run.status = _COMPLETED
        except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
            _fail(run, error)
        if run.children:
            await self._settle(run)

    async def _in_thread(self, run: Run) -> None:
        waiter: asyncio.Future[Call[bytes] | None] = run.loop.create_future()

        def end(call: Call[bytes]) -> None:
            if not waiter.done():
                waiter.set_result(call)
            elif run.abandoned:
                self._thread_ended(run)

        call = run.executor.submit(partial(self._work, run), end)
        run.on_cancel = partial(wake, waiter)
        try:
            ended = await waiter
        except asyncio.CancelledError:
            run.cancel(_CALLER_GONE)
            self._give_up(run, call)
            raise
        finally:
            run.on_cancel = None
        if ended is None:
            if run.parameters_json == Run.parameters_json:  # no thread has begun
                run.parameters_json = self._dump_parameters(run.parameters)
            _fail(run, RunCanceled(run.cancel_reason))
            self._give_up(run, call)
            return
        if ended.error is not None:
            _fail(run, ended.error)
        else:
            run.outputs_json = ended.value
            run.status = _COMPLETED
        if run.children:
            await self._settle(run)

    async def _settle(self, run: Run) -> None:
        """Wait for the submitted steps that nobody waited for, until the run is cancelled."""
        try:
            await run.settle(cancel=run.status is not _COMPLETED)
        except RunCanceled as error:
            _fail(run, error)
        except asyncio.CancelledError:
            run.cancel(_CALLER_GONE)
            raise
        finally:
            self._leave_behind(run)

    def _give_up(self, run: Run, call: Call[bytes]) -> None:
        """Wait no longer for the thread of a cancelled run."""
        call.abandoned = run.abandoned = call.on_end is not None  # it may have ended in this very moment
        if not run.abandoned:
            self._leave_behind(run)

    def _leave_behind(self, run: Run) -> None:
        """Have it told when the threads have ended that still work for a run which nobody waits for."""
        children = tuple(run.children or ())
        if children:
            run.abandoned = True
            children[0].add_done_callback(partial(self._child_ended, run))

    def _child_ended(self, run: Run, _: "Future[object]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            run.loop.call_soon_threadsafe(self._thread_ended, run)

    def _thread_ended(self, run: Run) -> None:
        self._leave_behind(run)
        if not run.children:
            self._on_abandoned_end(run)

    def _work(self, run: Run) -> bytes:
        """Run a sync pipeline in the thread that calls; return the JSON of its outputs.

        Of the run it touches `parameters_json` only: an abandoned thread must not change an answer already given.
        """
        token = current.set((run, None))
        try:
            run.parameters_json = self._dump_parameters(run.parameters)
            value = self._call(**run.parameters)
            if self._streams:
                value = drain(cast("Generator[object, None, None]", value), run, self._text, None)
            return self._dump_outputs(value)
        finally:
            current.reset(token)


def _fail(run: Run, error: BaseException) -> None:
    run.outputs_json = None
    if run.cancel_reason == TIMEOUT:
        run.status = Status.TIMED_OUT
        run.error = RunTimeoutError(run.timeout)
    elif run.cancel_reason is not None:
        run.status = Status.CANCELED
        run.error = RunCanceled(run.cancel_reason)
    else:
        run.status = Status.FAILED
        run.error = error


def _is_ours(run: Run, task: "asyncio.Task[object]") -> bool:
    """Tell a CancelledError that means this run (or that user code raised itself) from one that means our caller."""
    if run.cancel_reason is not None:
        return task.uncancel() <= 0
    return task.cancelling() == 0


def message_of(error: BaseException | None, limit: int = 2000) -> str:
    """Return the message of an exception, at most `limit` characters long; whatever `str(error)` does.

    Lone surrogates, which have no UTF-8 form, become question marks.
    """
    if isinstance(error, RunCanceled):
        return f"the run was cancelled: {error.args[0]}"
    try:
        text = str(error)
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = ""
    if isinstance(error, OutputError | RunTimeoutError) or text.strip():
        short = text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
        return short.encode("utf-8", "replace").decode()
    return "the pipeline failed without a message"


def summary_of(error: BaseException, limit: int = 500) -> str:
    """Return the class and the message of an exception, for whoever wrote the code that raised it: on one line."""
    try:
        text = " ".join(str(error)[: 2 * limit].split())
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = ""
    short = text if len(text) <= limit else f"{text[:limit]}…"
    return f"{type(error).__name__}{f': {short}' if short else ''}".encode("utf-8", "replace").decode()


def traceback_of(error: BaseException, limit: int = 7000) -> str:
    """Return the traceback as text for the log, at most `limit` bytes: its beginning and its end.

    Lone surrogates, on which the log handlers of a host would fail, are escaped.
    """
    try:
        text = "\n".join(traceback_lines(error))
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = f"{type(error).__name__}, whose message cannot be shown"
    return cut(text, limit).encode("utf-8", "backslashreplace").decode()
