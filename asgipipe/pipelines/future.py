"""Steps that were submitted: running beside the code that started them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

from asgipipe.errors import OutsideRunError, StepExitError
from asgipipe.pipelines.callables import Kind
from asgipipe.pipelines.context import Run, current
from asgipipe.pipelines.executor import Call

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


_outside_tasks: set[asyncio.Task[object]] = set()  # the event loop itself keeps only weak references


class StepLike(Protocol):
    name: str
    kind: Kind
    function: Callable[..., object]

    def __call__(self, *args: object, **kwargs: object) -> object: ...


class StepFuture(Generic[R_co]):
    """The result to come of a submitted step."""

    __slots__ = ("_call", "_future", "_run")

    def __init__(self, future: Future[R_co], run: Run | None = None, call: Call[object] | None = None) -> None:
        self._future = future
        self._run = run
        self._call = call

    def result(self, timeout: float | None = None) -> R_co:
        """Wait in a thread for the result, `timeout` seconds at most (TimeoutError).

        A step that no thread has begun yet is run here, so pipelines that wait for their steps never exhaust the
        threads. Raises OutsideRunError on an event loop, which it would block.
        """
        if not self._future.done() and asyncio._get_running_loop() is not None:
            raise OutsideRunError("result() would block the event loop: await the future")
        if self._run is None:
            return self._future.result(timeout)
        if self._call is not None:
            self._call.execute()
        return self._run.join(self._future, timeout)

    def done(self) -> bool:
        return self._future.done()

    def cancel(self) -> bool:
        """Cancel the step if it has not begun."""
        return self._future.cancel()

    def __await__(self) -> Generator[object, None, R_co]:
        return asyncio.wrap_future(self._future).__await__()


class StepFutures(list[StepFuture[R]]):
    """The futures of `step.map(...)`, in the order of the items."""

    def result(self, timeout: float | None = None) -> list[R]:
        """Wait in a thread for all results; `timeout` seconds for each at most."""
        return [future.result(timeout) for future in self]

    def __await__(self) -> Generator[object, None, list[R]]:
        return self._gather().__await__()

    async def _gather(self) -> list[R]:
        return await asyncio.gather(*self)


def start(step: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> StepFuture[object]:
    """Start `step` beside the caller, in the caller's run and context."""
    like = cast(StepLike, step)
    context = current.get()
    if context is None:
        return _at_once(like, args, kwargs)
    run = context[0]
    run.checkpoint()
    if like.kind.is_async:
        child = asyncio.run_coroutine_threadsafe(_awaited(partial(like, *args, **kwargs)), run.loop)
        run.adopt(child)
        return StepFuture(child, run)
    future: Future[object] = Future()
    call: Call[object] = Call(partial(_fulfil, future, like, args, kwargs), None)
    run.adopt(future, call)
    run.executor.enqueue(call)
    return StepFuture(future, run, call)


async def _awaited(function: Callable[[], object]) -> object:
    return await cast(Awaitable[object], function())


def _fulfil(future: Future[object], step: StepLike, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = step(*args, **kwargs)
    except StopIteration as error:
        # asyncio refuses a StopIteration as a future's exception, and the waiter would hang (bpo-26221).
        future.set_exception(RuntimeError(f"the step raised StopIteration: {error}"))
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        # Awaited in a task of its own (gather, TaskGroup), the first two would stop the event loop and with it the
        # server; the third would close the coroutine that awaits it.
        future.set_exception(StepExitError(step.name, error))
    except BaseException as error:  # boundary: the exception belongs to whoever reads the future
        future.set_exception(error)
    else:
        future.set_result(value)


def _at_once(step: StepLike, args: tuple[object, ...], kwargs: dict[str, object]) -> StepFuture[object]:
    """Outside a run there are no threads of ours: do the work now."""
    future: Future[object] = Future()
    try:
        result = step(*args, **kwargs)
        if asyncio.iscoroutine(result):
            if asyncio._get_running_loop() is not None:
                _start_task(future, result)
                return StepFuture(future)
            result = asyncio.run(result)
    except Exception as error:  # boundary: the exception belongs to whoever reads the future
        future.set_exception(error)
    else:
        future.set_result(result)
    return StepFuture(future)


def _start_task(future: Future[object], coroutine: Coroutine[object, object, object]) -> None:
    task = asyncio.ensure_future(coroutine)
    _outside_tasks.add(task)
    task.add_done_callback(_outside_tasks.discard)
    task.add_done_callback(partial(_copy_result, future))


def _copy_result(future: Future[object], task: "asyncio.Task[object]") -> None:
    if task.cancelled():
        future.cancel()
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
