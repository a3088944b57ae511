import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from asgipipe import Deployment, RunTimeoutError, get_step_context, pipeline, step
from asgipipe.pipelines.execution import Status, message_of
from tests.running import run, run_once, started


@step
def check() -> None: ...


@step
async def wait_forever() -> None:
    await asyncio.Event().wait()


@pipeline
async def hangs() -> None:
    await wait_forever()


def test_five_hundred_runs_never_see_each_others_state() -> None:
    """Sync, async and streaming runs keep their own parameters and ids, however they interleave."""

    @step
    def peek() -> tuple[str, object]:
        context = get_step_context()
        return context.run_id, context.parameters["number"]

    @step
    async def peek_later() -> tuple[str, object]:
        await asyncio.sleep(0)
        context = get_step_context()
        return context.run_id, context.parameters["number"]

    @pipeline
    def sync(number: int) -> list[tuple[str, object]]:
        return [peek(), peek.submit().result(), peek_later.submit().result()]

    @pipeline
    async def asynchronous(number: int) -> list[tuple[str, object]]:
        return [await peek_later(), peek(), *(await asyncio.gather(peek_later(), peek.submit()))]

    @pipeline
    def streaming(number: int) -> Iterator[tuple[str, object]]:
        yield peek()
        yield peek_later()  # type: ignore[misc]  # a sync pipeline's thread awaits it

    async def main(target: object) -> None:
        async with started(target) as deployment:
            results = await asyncio.gather(*(run(deployment, {"number": number}) for number in range(500)))
        assert len({result.outcome.id for result in results}) == 500
        for number, result in enumerate(results):
            assert isinstance(result.outputs, dict), result.outcome.error
            assert result.outputs["output"] == [[result.outcome.id, number]] * len(result.outputs["output"])

    for target in (sync, asynchronous, streaming):
        asyncio.run(main(target))


def test_an_async_run_ends_at_its_deadline() -> None:
    """The deadline acts at the await the run is in."""
    result = run_once(hangs, timeout=0.02)
    assert result.outcome.status is Status.TIMED_OUT
    assert isinstance(result.outcome.error, RunTimeoutError)


def test_request_timeout_bounds_what_a_request_may_ask_for() -> None:
    """A request can shorten the deadline, never lengthen it."""
    result = run_once(hangs, timeout=60, settings={"request_timeout": 0.02})
    assert str(result.outcome.error) == "the run did not finish within 0.02 s"


def test_sync_runs_that_overrun_never_take_more_threads() -> None:
    """100 runs with a deadline of 20 ms on a blocked pool: all answered, the pool is not exceeded, slots come back."""
    release = threading.Event()

    @pipeline
    def blocks() -> None:
        release.wait(30)
        check()

    async def main() -> None:
        async with started(blocks, {"thread_pool_size": 3}) as deployment:
            before = threading.active_count()
            results = await asyncio.gather(*(run(deployment, timeout=0.02) for _ in range(100)))
            assert {result.outcome.status for result in results} == {Status.TIMED_OUT}
            assert threading.active_count() - before <= 3
            release.set()
            result = await run(deployment, timeout=30)
            assert result.outcome.status is Status.COMPLETED

    asyncio.run(main())


def test_an_abandoned_sync_run_stops_at_its_next_step() -> None:
    """After the deadline no later step of the run begins."""
    release = threading.Event()
    reached: list[str] = []
    ended = threading.Event()

    @step
    def first() -> None:
        release.wait(30)

    @step
    def second() -> None:
        reached.append("second")

    @pipeline
    def target() -> None:
        try:
            first()
            second()
        finally:
            ended.set()

    async def main() -> None:
        async with started(target) as deployment:
            assert (await run(deployment, timeout=0.02)).outcome.status is Status.TIMED_OUT
            release.set()
            await asyncio.to_thread(ended.wait, 30)

    asyncio.run(main())
    assert reached == []


def test_a_cancelled_run_is_canceled_and_its_finally_runs() -> None:
    """cancel() acts at the await; the pipeline's own clean-up runs."""
    cleaned: list[str] = []

    @pipeline
    async def target() -> None:
        try:
            await wait_forever()
        finally:
            cleaned.append("yes")

    async def main() -> None:
        async with started(target) as deployment:
            task = asyncio.ensure_future(deployment.service.invoke({}, run_id="one"))
            await asyncio.sleep(0)
            assert deployment.service.cancel("one", "enough") is True
            outcome = await task
            assert outcome.status is Status.CANCELED
            assert message_of(outcome.error) == "the run was cancelled: enough"
            assert deployment.service.cancel("one", "again") is False
            assert task.cancelling() == 0

    asyncio.run(main())
    assert cleaned == ["yes"]


class Group(BaseExceptionGroup):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def recurse() -> None:
    recurse()


RAISERS = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("missing"),
    "BaseException": lambda: BaseException("base"),
    "SystemExit": lambda: SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration("stop"),
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "ExceptionGroup": lambda: ExceptionGroup("many", [ValueError("a")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("many", [SystemExit(1)]),
    "MemoryError": MemoryError,
    "Mute": Mute,
    "long": lambda: ValueError("x" * 20_000_000),
}


def raise_it(kind: str) -> None:
    if kind == "RecursionError":
        recurse()
    raise RAISERS[kind]


@pipeline
def sync_raises(kind: str) -> None:
    raise_it(kind)


@pipeline(blocking=False)
def in_place_raises(kind: str) -> None:
    raise_it(kind)


@pipeline
async def async_raises(kind: str) -> None:
    raise_it(kind)


@pipeline
def generator_raises(kind: str) -> Iterator[str]:
    yield "a"
    raise_it(kind)


@pipeline
async def async_generator_raises(kind: str) -> AsyncIterator[str]:
    yield "a"
    raise_it(kind)


@step
async def raising_step(kind: str) -> None:
    raise_it(kind)


@pipeline
async def step_raises(kind: str) -> None:
    await asyncio.gather(raising_step(kind))


TARGETS = [sync_raises, in_place_raises, async_raises, generator_raises, async_generator_raises, step_raises]


@pytest.mark.parametrize("kind", [*RAISERS, "RecursionError"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_is_raised_becomes_a_failed_run(target: object, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Any exception ends the run as failed, with a bounded message and log line, and the next run works."""
    if target is step_raises and kind == "GeneratorExit":
        pytest.skip("Python closes a coroutine that awaits a future whose exception is GeneratorExit")

    async def main() -> None:
        async with started(target) as deployment:
            outcome = (await run(deployment, {"kind": kind})).outcome
            assert outcome.status is Status.FAILED
            assert len(message_of(outcome.error)) < 2100
            assert outcome.parameters_json == b'{"kind":"%b"}' % kind.encode()
            assert (await run(deployment, {"kind": "ValueError"})).outcome.status is Status.FAILED

    with caplog.at_level(logging.ERROR, logger="asgipipe"):
        asyncio.run(main())
    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) <= 8192 for record in caplog.records)


def test_a_run_leaves_nothing_behind() -> None:
    """Neither the service nor the context variable keeps a run that has ended."""

    async def main() -> Deployment:
        async with started(hangs) as deployment:
            await run(deployment, timeout=0.01)
            return deployment

    deployment = asyncio.run(main())
    gc.collect()
    assert vars(deployment.service)["_runs"] == {}


def test_submitted_steps_end_with_their_run() -> None:
    """A run waits for steps that nobody waited for; a failing one cancels them."""
    ended: list[str] = []

    @step
    async def slow() -> None:
        try:
            await asyncio.sleep(0.02)
            ended.append("finished")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @pipeline
    async def target(fail: bool) -> None:
        slow.submit()
        await asyncio.sleep(0)
        if fail:
            raise ValueError("no")

    run_once(target, {"fail": False})
    run_once(target, {"fail": True})
    assert ended == ["finished", "cancelled"]


def test_blocking_false_runs_on_the_event_loop() -> None:
    """A sync pipeline that promises not to wait runs without a thread."""

    @pipeline(blocking=False)
    def here() -> bool:
        return threading.current_thread() is threading.main_thread()

    @pipeline
    def there() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert run_once(here).outputs == {"output": True}
    assert run_once(there).outputs == {"output": False}


def test_progress_and_deltas_reach_the_listener() -> None:
    """What a step tells is an event with the step's name."""

    @step
    def tells() -> None:
        context = get_step_context()
        context.progress(0.5, "half")
        context.emit({"part": 1})

    @pipeline
    def target() -> None:
        tells()

    result = run_once(target, listen=True)
    assert result.types() == ["step_started", "progress", "output_delta", "step_completed"]
    assert result.events[1][1:] == ("tells", {"fraction": 0.5, "message": "half", "step_name": "tells"})
    assert result.deltas() == [{"part": 1}]


def test_execution_time_is_measured() -> None:
    """The time of a run is what it took, in seconds."""

    @pipeline
    def target() -> None:
        time.sleep(0.02)

    assert 0.02 <= run_once(target).outcome.execution_time < 10
