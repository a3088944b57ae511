import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from asgipipe import Deployment, get_step_context, pipeline, step
from asgipipe.pipelines.context import Run, Status
from tests.running import run, started

PATIENCE = 30.0
"""Seconds until something that normally takes milliseconds is given up."""


class Gate:
    """A place where a thread or a coroutine waits, and where the test knows that it has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE)

    async def arrival(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)


@step
async def forever() -> None:
    await asyncio.Event().wait()


@step
def never() -> None:
    raise AssertionError("a step began after the run was cancelled")


def cancel_when(target: object, reached: Callable[[], object], *, gate: Gate | None = None) -> Run:
    """Run `target`, cancel it once `reached` has returned, and return the run when it ended; then open the gate."""

    async def main() -> Run:
        async with started(target) as deployment:
            task = asyncio.ensure_future(deployment.service.invoke({}, run_id="one"))
            await asyncio.to_thread(reached)
            assert deployment.service.cancel("one", "enough")
            ended = await asyncio.wait_for(task, PATIENCE)
            if gate is not None:
                gate.opened.set()
            await idle(deployment)
            return ended

    return asyncio.run(main())


async def idle(deployment: Deployment) -> None:
    """Return when no run is in flight any more, the abandoned ones included."""
    async with asyncio.timeout(PATIENCE):
        while vars(deployment.service)["_runs"]:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


# Cancelled while it waits


def test_a_sync_pipeline_that_waits_for_an_async_step_is_cancelled_there() -> None:
    """The async step gets its CancelledError, the pipeline RunCanceled, which `except Exception` does not catch."""
    seen: list[str] = []
    reached, ended = threading.Event(), threading.Event()

    @step
    async def waits() -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("step cancelled")
            raise

    @pipeline
    def target() -> None:
        try:
            waits()
        except Exception as error:  # what users write
            seen.append(f"swallowed {error!r}")
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            ended.set()
        never()

    assert cancel_when(target, lambda: reached.wait(PATIENCE)).status is Status.CANCELED
    assert ended.wait(PATIENCE)
    assert sorted(seen) == ["RunCanceled", "step cancelled"]


def test_a_sync_pipeline_that_waits_for_a_submitted_step_is_cancelled_there() -> None:
    """result() of an async step that was cancelled with the run raises RunCanceled too."""
    seen: list[str] = []
    reached, ended = threading.Event(), threading.Event()

    @step
    async def waits() -> None:
        reached.set()
        await asyncio.Event().wait()

    @pipeline
    def target() -> None:
        try:
            waits.submit().result()
        except Exception as error:  # what users write
            seen.append(f"swallowed {error!r}")
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            ended.set()

    assert cancel_when(target, lambda: reached.wait(PATIENCE)).status is Status.CANCELED
    assert ended.wait(PATIENCE)
    assert seen == ["RunCanceled"]


def test_a_submitted_step_that_no_thread_has_begun_never_begins() -> None:
    """After the cancellation its result() raises RunCanceled."""
    gate, seen = Gate(), list[str]()

    @pipeline
    def target() -> None:
        waiting = never.submit
        gate.wait()
        try:
            waiting().result()
        except Exception as error:  # what users write
            seen.append(f"swallowed {error!r}")
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    cancelled = cancel_when(target, lambda: gate.reached.wait(PATIENCE), gate=gate)
    assert cancelled.status is Status.CANCELED
    assert seen == ["RunCanceled"]


@pytest.mark.parametrize("waits", ["sync", "async"])
def test_a_run_between_two_attempts_of_a_step_is_cancelled_there(waits: str) -> None:
    """Nobody waits for the rest of `retry_delay`."""
    attempts: list[int] = []
    failed = threading.Event()

    def attempt() -> None:
        attempts.append(1)
        failed.set()
        raise ConnectionError

    @step(retries=3, retry_delay=3600)
    def flaky() -> None:
        attempt()

    @step(retries=3, retry_delay=3600)
    async def async_flaky() -> None:
        attempt()

    @pipeline
    def sync() -> None:
        flaky()

    @pipeline
    async def asynchronous() -> None:
        await async_flaky()

    target = sync if waits == "sync" else asynchronous
    assert cancel_when(target, lambda: failed.wait(PATIENCE)).status is Status.CANCELED
    assert attempts == [1]


def test_the_deadline_acts_between_two_attempts_of_a_sync_step() -> None:
    """The thread is free again when the deadline passes, not when the delay is over."""

    @step(retries=1, retry_delay=3600)
    def flaky() -> None:
        raise ConnectionError

    @pipeline
    def target() -> None:
        flaky()

    async def main() -> None:
        async with started(target, {"thread_pool_size": 1}) as deployment:
            assert (await run(deployment, timeout=0.02)).outcome.status is Status.TIMED_OUT
            await idle(deployment)

    asyncio.run(main())


# The deadline and submitted steps


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("kind", ["sync", "async", "in place"])
def test_the_deadline_does_not_wait_for_submitted_threads(kind: str, awaited: bool) -> None:
    """A submitted sync step that overruns is left behind, as a sync pipeline is; its run is in flight until it ends."""
    gate = Gate()

    @step
    def blocks() -> None:
        gate.wait()

    @pipeline
    def sync() -> None:
        future = blocks.submit()
        if awaited:
            forever()
            future.result()

    @pipeline(blocking=False)
    def in_place() -> None:
        blocks.submit()

    @pipeline
    async def asynchronous() -> None:
        future = blocks.submit()
        if awaited:
            await future

    target = {"sync": sync, "async": asynchronous, "in place": in_place}[kind]

    async def main() -> None:
        async with started(target) as deployment:
            task = asyncio.ensure_future(run(deployment, timeout=0.05))
            await gate.arrival()
            result = await asyncio.wait_for(task, PATIENCE / 2)
            assert result.outcome.status is Status.TIMED_OUT
            assert result.outcome.abandoned
            gate.opened.set()
            await idle(deployment)
            assert not result.outcome.abandoned

    asyncio.run(main())


def test_a_run_waits_for_its_submitted_steps_which_keep_its_context() -> None:
    """A run does not end before the steps that nobody waited for; they still know the run and its parameters."""
    gate, seen = Gate(), list[object]()

    @step
    def slow() -> None:
        gate.wait()
        context = get_step_context()
        seen.append((context.run_id, context.parameters["x"], context.step_name, context.cancelled))

    @pipeline
    def target(x: int) -> str:
        slow.submit()
        return "value"

    async def main() -> None:
        async with started(target) as deployment:
            task = asyncio.ensure_future(deployment.service.invoke({"x": 5}, run_id="one"))
            await gate.arrival()
            assert not task.done()
            gate.opened.set()
            assert (await task).outputs_json == b'{"output":"value"}'

    asyncio.run(main())
    assert seen == [("one", 5, "slow", False)]


def test_a_submitted_step_that_fails_unseen_says_nothing_on_standard_error(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception belongs to whoever reads the future; asyncio does not complain that nobody did."""

    @step
    def fails() -> None:
        raise ValueError("unseen")

    @step
    async def fails_later() -> None:
        raise ValueError("unseen")

    @pipeline
    def sync() -> None:
        fails.submit()
        fails_later.submit()

    @pipeline
    async def asynchronous() -> None:
        fails.submit()
        fails_later.submit()

    async def main(target: object) -> None:
        async with started(target) as deployment:
            assert (await run(deployment)).outcome.status is Status.COMPLETED

    for target in (sync, asynchronous):
        asyncio.run(main(target))
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# Steps after the cancellation


def test_no_step_begins_after_the_cancellation() -> None:
    """Neither called nor submitted nor mapped, not even in the pipeline's own clean-up."""
    refused: list[str] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            refused.append(type(error).__name__)

    reached = threading.Event()

    @pipeline
    async def target() -> None:
        try:
            reached.set()
            await forever()
        finally:
            for call in (never, never.submit, forever.submit, lambda: never.map([1])):
                attempt(call)
            with contextlib.suppress(BaseException):
                await forever()
                refused.append("not this one")

    assert cancel_when(target, lambda: reached.wait(PATIENCE)).status is Status.CANCELED
    assert refused == ["RunCanceled"] * 4


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_run_canceled_passes_through_except_exception(kind: str) -> None:
    """A pipeline that catches every Exception of its steps is cancelled all the same."""
    gate = Gate()

    @step
    def first() -> None:
        gate.wait()

    @pipeline
    def sync() -> str:
        for call in (first, never, never):
            with contextlib.suppress(Exception):
                call()
        return "survived"

    @pipeline
    async def asynchronous() -> str:
        for _ in range(3):
            with contextlib.suppress(Exception):
                gate.reached.set()
                await forever()
        return "survived"

    target = sync if kind == "sync" else asynchronous
    ended = cancel_when(target, lambda: gate.reached.wait(PATIENCE), gate=gate)
    assert (ended.status, ended.outputs_json) == (Status.CANCELED, None)


# Generators


def test_generators_are_closed_when_their_run_is_cancelled() -> None:
    """Sync or async, pipeline or step: the `finally` of each generator runs."""
    closed: list[str] = []
    reached = threading.Event()
    gate = Gate()

    @step
    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            reached.set()
            await asyncio.Event().wait()
        finally:
            closed.append("step")

    @pipeline
    async def streams() -> AsyncIterator[object]:
        try:
            yield await items()  # type: ignore[misc]  # inside a run it is the value
        finally:
            closed.append("pipeline")

    @pipeline
    def sync_streams() -> Iterator[int]:
        try:
            gate.wait()
            yield 1
            closed.append("went on")
        finally:
            closed.append("sync")

    assert cancel_when(streams, lambda: reached.wait(PATIENCE)).status is Status.CANCELED
    assert cancel_when(sync_streams, lambda: gate.reached.wait(PATIENCE), gate=gate).status is Status.CANCELED
    assert closed == ["step", "pipeline", "sync"]


def test_a_generator_that_fails_is_closed_and_its_error_is_the_runs() -> None:
    """What the generator raised is not replaced by anything of its closing."""

    @pipeline
    async def target() -> AsyncIterator[int]:
        yield 1
        raise ValueError("in the middle")

    async def main() -> None:
        async with started(target) as deployment:
            result = await run(deployment, listen=True)
            assert (str(result.outcome.error), result.deltas()) == ("in the middle", [1])

    asyncio.run(main())


# The moment of the end


def test_a_run_that_ends_while_it_is_cancelled_leaves_nothing_behind() -> None:
    """When the thread ends in the very moment of the cancellation, the run is forgotten and its place is free."""
    gate = Gate()

    @pipeline
    def target() -> None:
        gate.wait()

    async def main() -> None:
        async with started(target) as deployment:
            task = asyncio.ensure_future(deployment.service.invoke({}, run_id="one"))
            await gate.arrival()
            gate.opened.set()
            ended = vars(deployment.executor)["_ended"]
            while not ended:  # the thread has ended; the loop, busy here, was not told yet
                pass
            deployment.service.cancel("one", "at the same time")
            outcome = await task
            assert outcome.status is Status.CANCELED
            await idle(deployment)
            assert not outcome.abandoned

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_caller_that_is_cancelled_cancels_the_run(kind: str) -> None:
    """The cancellation of the request's task is passed on, and the run ends at its next boundary."""
    gate = Gate()

    @pipeline
    def sync() -> None:
        gate.wait()
        never()

    @pipeline
    async def asynchronous() -> None:
        gate.reached.set()
        await forever()

    async def main() -> None:
        async with started(sync if kind == "sync" else asynchronous) as deployment:
            task = asyncio.ensure_future(deployment.service.invoke({}))
            await gate.arrival()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.opened.set()
            await idle(deployment)

    asyncio.run(main())


# Threads and loops of the user's own


def test_a_thread_of_the_users_own_takes_part_with_copy_context() -> None:
    """Steps called there belong to the run, async ones included; without the context they are plain functions."""
    seen: list[object] = []

    @step
    def where() -> str:
        return get_step_context().run_id

    @step
    async def where_later() -> str:
        return get_step_context().run_id

    @step
    def plain() -> str:
        return "plain"

    def work() -> None:
        seen.extend([where(), where_later(), where.submit().result(), where_later.submit().result()])

    @pipeline
    def target() -> None:
        for thread in (
            threading.Thread(target=contextvars.copy_context().run, args=(work,)),
            threading.Thread(target=lambda: seen.append(plain())),
        ):
            thread.start()
            thread.join()

    async def main() -> None:
        async with started(target) as deployment:
            assert (await deployment.service.invoke({}, run_id="one")).status is Status.COMPLETED

    asyncio.run(main())
    assert seen == ["one"] * 4 + ["plain"]


def test_an_event_loop_of_the_users_own_takes_part() -> None:
    """asyncio.run inside a sync step may await async steps, submit and gather; the run is still theirs."""

    @step
    async def later(value: int) -> tuple[str, int]:
        await asyncio.sleep(0)
        return get_step_context().run_id, value

    @step(retries=1)
    def retried(value: int) -> tuple[str, int]:
        return get_step_context().run_id, value

    async def inside() -> list[object]:
        results = await asyncio.gather(later(1), later.submit(2), retried.submit(3), *later.map([4, 5]))
        return [*results, retried(6)]

    @step
    def starts_a_loop() -> list[object]:
        return asyncio.run(inside())

    @pipeline
    def target() -> list[object]:
        return starts_a_loop()

    async def main() -> None:
        async with started(target) as deployment:
            ended = await deployment.service.invoke({}, run_id="one")
            assert ended.error is None
            assert ended.outputs_json == b'{"output":[["one",1],["one",2],["one",3],["one",4],["one",5],["one",6]]}'

    asyncio.run(main())


def test_nested_pipelines_run_inside_the_run_that_calls_them() -> None:
    """Sync or async, a pipeline that is called by another is a part of its run, and gives its value."""

    @step
    def run_id() -> str:
        return get_step_context().run_id

    @pipeline(on_init=lambda: pytest.fail("only the pipeline that is served is initialised"))
    def inner() -> str:
        return run_id()

    @pipeline
    async def async_inner() -> str:
        await asyncio.sleep(0)
        return run_id()

    @pipeline
    def sync() -> list[object]:
        return [inner(), async_inner()]

    @pipeline
    async def asynchronous() -> list[object]:
        return [inner(), await async_inner()]

    async def main(target: object) -> None:
        async with started(target) as deployment:
            ended = await deployment.service.invoke({}, run_id="one")
            assert (ended.error, ended.outputs_json) == (None, b'{"output":["one","one"]}')

    for target in (sync, asynchronous):
        asyncio.run(main(target))


def test_steps_that_wait_for_each_other_across_loop_and_threads_never_run_out_of_threads() -> None:
    """With one thread: a sync pipeline waits for an async step, which waits for a sync step that needs a thread."""

    @step
    def leaf(value: int) -> int:
        return value + 1

    @step
    async def branch(value: int) -> int:
        return sum(await leaf.map(range(value)))

    @pipeline
    def target(value: int) -> int:
        return branch(value) + sum(branch.map(range(value)).result())

    async def main() -> None:
        async with started(target, {"thread_pool_size": 1}) as deployment:
            results = await asyncio.gather(*(run(deployment, {"value": 3}, timeout=PATIENCE / 2) for _ in range(5)))
            assert [result.outputs for result in results] == [{"output": 10}] * 5

    asyncio.run(main())
