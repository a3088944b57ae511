import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from asgipipe import (
    DefinitionError,
    OutsideRunError,
    StepExitError,
    StepTimeoutError,
    get_step_context,
    pipeline,
    step,
)
from asgipipe.pipelines.execution import Status
from tests.running import run_once


@step
def double(value: int) -> int:
    """Twice the value."""
    return 2 * value


@step
async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


@step
def words(text: str) -> Iterator[str]:
    yield from text.split()


@step
async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


@step
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def test_a_step_is_the_plain_function_outside_a_run() -> None:
    """Called on its own, a step does what its function does, generators included."""
    assert double(3) == 6
    assert asyncio.run(later(3)) == 4
    assert list(words("a b")) == ["a", "b"]
    assert double.__doc__ == "Twice the value."
    assert inspect.signature(double) == inspect.signature(double.function)


def test_sync_and_async_steps_mix_in_sync_and_async_pipelines() -> None:
    """A sync pipeline gets the value of an async step, an async pipeline that of a sync one."""

    @pipeline
    def sync(value: int) -> int:
        return double(later(value))  # type: ignore[arg-type]  # a sync pipeline's thread awaits it

    @pipeline
    async def asynchronous(value: int) -> int:
        return double(await later(value))

    assert run_once(sync, {"value": 4}).outputs == {"output": 10}
    assert run_once(asynchronous, {"value": 4}).outputs == {"output": 10}


def test_the_value_of_a_generator_step_is_its_text_or_list() -> None:
    """Iterator[str] is joined, everything else becomes a list, and each item is an output_delta event."""

    @pipeline
    async def streams(text: str) -> dict[str, object]:
        return {"words": words(text), "letters": await letters(text), "numbers": numbers(3)}  # type: ignore[misc]

    result = run_once(streams, {"text": "ab c"}, listen=True)
    assert result.outputs == {"output": {"words": "abc", "letters": "ab c", "numbers": [0, 1, 2]}}
    assert result.deltas() == ["ab", "c", "a", "b", " ", "c", 0, 1, 2]


def test_an_async_generator_step_can_be_passed_through() -> None:
    """A pipeline may iterate over an async generator step and yield its items on."""

    @pipeline
    async def streams(text: str) -> AsyncIterator[str]:
        async for letter in letters(text):
            yield letter.upper()

    result = run_once(streams, {"text": "abc"}, listen=True)
    assert result.outputs == {"output": "ABC"}
    assert result.types() == [
        "step_started", "output_delta", "output_delta", "output_delta", "output_delta", "output_delta", "output_delta",
        "step_completed",
    ]  # fmt: skip


def test_a_failing_step_is_retried_as_often_as_it_says() -> None:
    """retries=2 means three attempts; each failure but the last is a retrying event."""
    attempts: list[int] = []

    @step(retries=2)
    def flaky(fail: int) -> str:
        attempts.append(fail)
        if len(attempts) <= fail:
            raise ConnectionError("not yet")
        return "done"

    @pipeline
    def sync(fail: int) -> str:
        return flaky(fail)

    @pipeline
    async def asynchronous(fail: int) -> str:
        return await flaky.submit(fail)

    for target in (sync, asynchronous):
        attempts.clear()
        result = run_once(target, {"fail": 2}, listen=True)
        assert result.outputs == {"output": "done"}
        assert result.types() == ["step_started", "retrying"] * 2 + ["step_started", "step_completed"]
        attempts.clear()
        result = run_once(target, {"fail": 3}, listen=True)
        assert result.outcome.status is Status.FAILED
        assert isinstance(result.outcome.error, ConnectionError)
        assert (len(attempts), result.types()[-1]) == (3, "step_failed")


def test_an_async_step_is_retried_and_timed() -> None:
    """An async step that hangs is cancelled at its timeout, and that counts as a failed attempt."""
    attempts: list[int] = []

    @step(retries=1, timeout=0.02)
    async def hangs_once() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "second"

    @pipeline
    async def target() -> str:
        return await hangs_once()

    assert run_once(target).outputs == {"output": "second"}


def test_a_sync_step_that_overruns_fails_at_once() -> None:
    """The pipeline goes on at the step's timeout, while the thread is left to end by itself."""
    release = threading.Event()

    @step(timeout=0.02)
    def slow() -> None:
        release.wait(10)

    @pipeline
    def target() -> str:
        try:
            slow()
        except StepTimeoutError as error:
            return str(error)
        finally:
            release.set()
        return "no timeout"

    assert run_once(target).outputs == {"output": "step 'slow' did not finish within 0.02 s"}


def test_the_steps_own_timeout_error_is_its_own() -> None:
    """A TimeoutError raised by the step's code is not taken for the step's timeout."""

    @step(timeout=5)
    async def raises() -> None:
        raise TimeoutError("from the database")

    @pipeline
    async def target() -> None:
        await raises()

    assert str(run_once(target).outcome.error) == "from the database"


def test_a_sync_step_with_retries_is_refused_on_the_event_loop() -> None:
    """It would block every other run, so it fails with the way out instead."""

    @step(retries=1)
    def flaky() -> None: ...

    @pipeline
    async def target() -> None:
        flaky()

    error = run_once(target).outcome.error
    assert isinstance(error, DefinitionError)
    assert "await flaky.submit(...)" in str(error)


def test_an_async_step_in_a_pipeline_that_never_waits_is_refused() -> None:
    """blocking=False runs on the event loop, where a sync function cannot await."""

    @pipeline(blocking=False)
    def target() -> int:
        return later(1)  # type: ignore[return-value]  # what the test is about

    assert isinstance(run_once(target).outcome.error, DefinitionError)


def test_submit_and_map_run_beside_each_other() -> None:
    """Submitted steps overlap: each waits until all of them have begun."""
    barrier = threading.Barrier(3, timeout=10)

    @step
    def meet(value: int) -> int:
        barrier.wait()
        return value

    @pipeline
    async def asynchronous(count: int) -> list[int]:
        return await meet.map(range(count))

    assert run_once(asynchronous, {"count": 3}).outputs == {"output": [0, 1, 2]}

    @pipeline
    def sync(count: int) -> list[int]:
        futures = [double.submit(value) for value in range(count)]
        return [future.result() for future in futures]

    assert run_once(sync, {"count": 5}).outputs == {"output": [0, 2, 4, 6, 8]}


def test_pipelines_that_wait_for_their_steps_never_exhaust_the_threads() -> None:
    """With a single thread, nested submits still end: who waits for a step nobody began runs it."""

    @step
    def leaf(value: int) -> int:
        return value + 1

    @step
    def branch(value: int) -> int:
        return sum(leaf.map(range(value)).result())

    @pipeline
    def target(value: int) -> int:
        return sum(branch.map(range(value)).result())

    result = run_once(target, {"value": 6}, settings={"thread_pool_size": 1})
    assert result.outputs == {"output": sum(n * (n + 1) // 2 for n in range(6))}


def test_async_steps_are_submitted_from_threads_and_from_the_loop() -> None:
    """submit works for async steps wherever the pipeline runs."""

    @pipeline
    def sync(value: int) -> int:
        return later.submit(value).result()

    @pipeline
    async def asynchronous(value: int) -> list[int]:
        return await asyncio.gather(later.submit(value), later.submit(value + 1))

    assert run_once(sync, {"value": 1}).outputs == {"output": 2}
    assert run_once(asynchronous, {"value": 1}).outputs == {"output": [2, 3]}


def test_waiting_on_the_event_loop_is_refused() -> None:
    """result() of a step that is not done would block the loop."""

    @pipeline
    async def target() -> None:
        later.submit(1).result()

    assert isinstance(run_once(target).outcome.error, OutsideRunError)


def test_submit_outside_a_run_runs_at_once() -> None:
    """Without a run there are no threads of ours: the work is done when submit returns."""
    assert double.submit(4).result() == 8
    assert later.submit(4).result() == 5
    assert double.map([1, 2]).result() == [2, 4]

    async def inside() -> int:
        return await later.submit(1)

    assert asyncio.run(inside()) == 2


def test_a_submitted_step_raises_where_its_result_is_read() -> None:
    """Exceptions travel to whoever reads the future, StopIteration included."""

    @step
    def stops() -> None:
        raise StopIteration("odd")

    @pipeline
    async def target() -> str:
        try:
            await stops.submit()
        except RuntimeError as error:
            return str(error)
        return "nothing"

    assert run_once(target).outputs == {"output": "the step raised StopIteration: odd"}


def test_the_context_follows_into_threads_and_tasks() -> None:
    """get_step_context() names the step wherever it runs: in place, in a thread, in a task."""

    @step
    def sync_name() -> str:
        return str(get_step_context().step_name)

    @step
    async def async_name() -> str:
        await asyncio.sleep(0)
        return str(get_step_context().step_name)

    @pipeline
    async def target() -> list[str | None]:
        first, second = await asyncio.gather(async_name(), sync_name.submit())
        return [first, second, sync_name(), get_step_context().step_name]

    assert run_once(target).outputs == {"output": ["async_name", "sync_name", "sync_name", None]}


def test_what_would_stop_the_loop_becomes_an_error_of_the_step() -> None:
    """SystemExit raised in a task of its own would end the server; here it ends the run."""

    @step
    async def leaves() -> None:
        raise SystemExit(3)

    @pipeline
    async def target() -> None:
        await asyncio.gather(leaves(), later(1))

    assert isinstance(run_once(target).outcome.error, StepExitError)


def test_methods_can_be_steps() -> None:
    """A step in a class body binds to its instance like a method."""

    class Model:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @step
        def score(self, value: int) -> int:
            return self.factor * value

        def predict(self, value: int) -> int:
            return self.score(value)

    assert run_once(Model(3).predict, {"value": 5}).outputs == {"output": 15}


def test_with_options_leaves_the_step_as_it_was() -> None:
    """with_options returns a copy."""
    changed = double.with_options(name="twice", retries=2)
    assert (changed.name, changed.retries, double.name, double.retries) == ("twice", 2, "double", 0)


@pytest.mark.parametrize("options", [{"retries": -1}, {"timeout": 0}, {"retry_delay": -0.5}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    """A step with impossible options is an error where it is defined."""
    with pytest.raises(DefinitionError, match="double"):
        double.with_options(**options)  # type: ignore[arg-type]  # what the test is about


def test_the_context_outside_a_run_says_so() -> None:
    """get_step_context() in a plain call is an error that names the reason."""
    with pytest.raises(OutsideRunError, match="outside a run"):
        get_step_context()
