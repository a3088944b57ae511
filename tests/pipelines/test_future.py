import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from asgipipe import OutsideRunError, StepExitError, pipeline, step
from asgipipe.pipelines.future import StepFuture, StepFutures
from tests.running import run_once


@step
def double(value: int) -> int:
    return 2 * value


@step
async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


@step
def fails() -> int:
    raise ValueError("no")


@step
async def fails_later() -> int:
    raise ValueError("no")


def test_map_gives_the_results_in_order_with_the_common_arguments() -> None:
    """Each item is the first argument; keyword arguments go to every call; no items give an empty list."""

    @step
    def power(base: int, *, exponent: int) -> int:
        return base**exponent

    @pipeline
    def sync() -> list[list[int]]:
        return [power.map(range(4), exponent=2).result(), power.map([]).result()]

    @pipeline
    async def asynchronous() -> list[list[int]]:
        return [await power.map(range(4), exponent=2), await later.map([])]

    assert run_once(sync).outputs == {"output": [[0, 1, 4, 9], []]}
    assert run_once(asynchronous).outputs == {"output": [[0, 1, 4, 9], []]}


def test_a_future_tells_whether_it_is_done() -> None:
    """done() turns true when the step has ended, and a step that has begun cannot be cancelled."""
    gate, begun = threading.Event(), threading.Event()

    @step
    def waits() -> str:
        begun.set()
        gate.wait(30)
        return "result"

    @pipeline
    def target() -> list[object]:
        future = waits.submit()
        begun.wait(30)
        before = [future.done(), future.cancel()]
        gate.set()
        return [*before, future.result(), future.done(), future.result()]

    assert run_once(target).outputs == {"output": [False, False, "result", True, "result"]}


def test_a_step_that_has_not_begun_can_be_cancelled() -> None:
    """It never begins then, and whoever asks for its result is told; the run itself goes on."""
    ran: list[int] = []

    @step
    def waits() -> None:
        ran.append(1)

    @pipeline
    def target() -> str:
        future = waits.submit()  # the only thread is this one
        assert future.cancel()
        try:
            future.result()
        except Exception as error:
            return type(error).__name__
        return "no error"

    assert run_once(target, settings={"thread_pool_size": 1}).outputs == {"output": "CancelledError"}
    assert ran == []


def test_a_result_that_does_not_come_in_time_is_a_timeout_error() -> None:
    """result(timeout) gives up, for a step in a thread and for one on the event loop; the step goes on."""
    gate, begun = threading.Event(), threading.Event()

    @step
    def in_a_thread() -> str:
        begun.set()
        gate.wait(30)
        return "thread"

    @step
    async def on_the_loop() -> str:
        await asyncio.to_thread(gate.wait, 30)
        return "loop"

    def outcome(future: StepFuture[str]) -> str:
        try:
            return future.result(0.01)
        except TimeoutError:
            return "too late"

    @pipeline
    def target() -> list[str]:
        futures = [in_a_thread.submit(), on_the_loop.submit()]
        begun.wait(30)
        early = [outcome(future) for future in futures]
        gate.set()
        return early + [future.result(30) for future in futures]

    assert run_once(target).outputs == {"output": ["too late", "too late", "thread", "loop"]}


def test_waiting_on_the_event_loop_is_always_refused() -> None:
    """result() would block every other run: an error, also when no thread has begun the step; a result is given."""
    gate = threading.Event()

    @step
    def waits() -> str:
        gate.wait(30)
        return "result"

    @pipeline
    async def target() -> list[str]:
        futures = [waits.submit(), waits.submit(), waits.submit()]
        for future in futures:
            with pytest.raises(OutsideRunError, match="await the future"):
                future.result()
        gate.set()
        await asyncio.gather(*futures)
        return [future.result() for future in futures]

    assert run_once(target, settings={"thread_pool_size": 1}).outputs == {"output": ["result"] * 3}


def test_what_would_stop_the_loop_is_an_error_of_the_submitted_step() -> None:
    """SystemExit raised in a thread does not stop the server when a task of its own waits for it."""

    @step
    def leaves() -> None:
        raise SystemExit(3)

    async def waits() -> None:
        await leaves.submit()

    @pipeline
    async def target() -> str:
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
        (error,) = raised.value.exceptions
        assert isinstance(error, StepExitError)
        return str(error)

    assert run_once(target).outputs == {"output": "step 'leaves' raised SystemExit: 3"}


@pytest.mark.parametrize("broken", [fails, fails_later])
def test_outside_a_run_exceptions_belong_to_whoever_reads_the_future(broken: Callable[[], int]) -> None:
    """submit() raises nothing of the step's, in a run or outside of one."""
    future = broken.submit()  # type: ignore[attr-defined]  # both are steps
    with pytest.raises(ValueError, match="no"):
        future.result()

    async def inside() -> None:
        future = broken.submit()  # type: ignore[attr-defined]  # both are steps
        with pytest.raises(ValueError, match="no"):
            await future

    asyncio.run(inside())


def test_outside_a_run_a_submitted_step_is_kept_until_it_ends() -> None:
    """The event loop refers to tasks weakly; a submitted step survives the garbage collector."""

    @step
    async def waits(gate: asyncio.Event) -> str:
        await gate.wait()
        return "survived"

    async def main() -> str:
        gate = asyncio.Event()
        future = waits.submit(gate)
        await asyncio.sleep(0)
        gc.collect()
        gate.set()
        return await cast(Awaitable[str], future)

    assert asyncio.run(main()) == "survived"


def test_outside_a_run_a_cancelled_task_is_a_cancelled_future() -> None:
    """Whoever awaits a step that cancelled itself gets the CancelledError."""

    @step
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await cancels_itself.submit()

    asyncio.run(main())


def test_the_futures_of_map_are_a_list() -> None:
    """They can be counted, indexed and awaited one by one."""

    @pipeline
    async def target() -> list[object]:
        futures = later.map([1, 2, 3])
        assert isinstance(futures, StepFutures)
        return [len(futures), await futures[2], await futures]

    assert run_once(target).outputs == {"output": [3, 4, [2, 3, 4]]}
