import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from asgipipe import pipeline, step
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.memory import StepMemory
from tests.http.wire import until
from tests.running import started


class Kept(StepMemory):
    """A memory in a dictionary."""

    def __init__(self, results: dict[tuple[int, str], bytes] | None = None) -> None:
        self.results = dict(results or {})
        self.waiting: list[Future[None]] | None = None

    def recall(self, position: int, name: str) -> bytes | None:
        return self.results.get((position, name))

    def keep(self, position: int, name: str, value: bytes) -> "Future[None]":
        self.results[position, name] = value
        kept: Future[None] = Future()
        if self.waiting is None:
            kept.set_result(None)
        else:
            self.waiting.append(kept)
        return kept


calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@step
def add(a: int, b: int = 1) -> int:
    calls.append(f"add {a} {b}")
    return a + b


@step
async def later(value: int) -> int:
    calls.append(f"later {value}")
    await asyncio.sleep(0)
    return value * 10


@step
def words(text: str) -> Iterator[str]:
    calls.append(f"words {text}")
    yield from text.split()


@step
async def letters(text: str) -> AsyncIterator[str]:
    calls.append(f"letters {text}")
    for letter in text:
        yield letter


@step
def outer(value: int) -> int:
    calls.append(f"outer {value}")
    return add(add(value))


@step
def odd(value: int) -> Any:
    calls.append(f"odd {value}")
    return object()


def attempt(target: object, memory: StepMemory, **parameters: object) -> tuple[Run, list[str], list[str]]:
    """Run a pipeline with a memory; return the run, the calls it made, and the steps it announced."""
    calls.clear()
    told: list[str] = []

    async def main() -> Run:
        async with started(target) as deployment:
            return await deployment.service.invoke(
                parameters, memory=memory, listener=lambda kind, step_name, data: told.append(f"{kind} {step_name}")
            )

    return asyncio.run(main()), list(calls), told


@pipeline
def sync_all() -> list[object]:
    futures = add.map([1, 2], b=5)
    submitted = later.submit(7)
    return [add(1), later(2), words("a b"), letters("xy"), outer(3), futures.result(), submitted.result()]  # type: ignore[list-item]


@pipeline
async def async_all() -> list[object]:
    futures = add.map([1, 2], b=5)
    submitted = later.submit(7)
    pair = await asyncio.gather(later(1), later(2))
    return [add(1), *pair, words("a b"), await letters("xy"), outer(3), await futures, await submitted]  # type: ignore[misc]


@pipeline(blocking=False)
def in_place() -> list[object]:
    return [add(1), words("a b"), outer(3)]


@pytest.mark.parametrize("target", [sync_all, async_all, in_place], ids=lambda target: target.name)
def test_a_repeated_run_recalls_every_step(target: object) -> None:
    """Steps of every kind, submitted ones too, are not run again, announce nothing, and give the same values."""
    memory = Kept()
    first, made, told = attempt(target, memory)
    assert first.status is Status.COMPLETED, first.error
    assert made
    assert told
    again, made, told = attempt(target, Kept(memory.results))
    assert again.outputs_json == first.outputs_json
    assert made == []
    assert told == []


def test_steps_that_a_recalled_one_called_shift_nothing() -> None:
    """The step after one whose result is recalled is not taken for one that it called."""

    @pipeline
    def target() -> list[int]:
        return [outer(1), add(1), add(100)]

    memory = Kept()
    first, _, _ = attempt(target, memory)
    assert sorted(memory.results) == [(0, "outer"), (0, "outer/0.add"), (0, "outer/1.add"), (1, "add"), (2, "add")]
    del memory.results[1, "add"]
    again, made, _ = attempt(target, memory)
    assert again.outputs_json == first.outputs_json == b'{"output":[3,2,101]}'
    assert made == ["add 1 1"]


def test_a_step_goes_on_after_the_last_of_those_it_called() -> None:
    """When a step was lost half way, the steps that it had called are recalled."""

    @pipeline
    def target() -> int:
        return outer(1)

    memory = Kept()
    attempt(target, memory)
    del memory.results[0, "outer"], memory.results[0, "outer/1.add"]
    again, made, _ = attempt(target, memory)
    assert again.outputs_json == b'{"output":3}'
    assert made == ["outer 1", "add 2 1"]


def test_from_the_first_result_that_cannot_be_kept_on_none_is() -> None:
    """Results after one that is not remembered are not either; those before are."""

    @pipeline
    def target() -> int:
        value = add(1)
        odd(1)
        return outer(value)

    memory = Kept()
    attempt(target, memory)
    assert sorted(memory.results) == [(0, "add")]
    _, made, _ = attempt(target, memory)
    assert made == ["odd 1", "outer 2", "add 2 1", "add 3 1"]


def test_what_a_step_calls_does_not_keep_it_from_being_remembered() -> None:
    """A step whose result can be kept is, also when it called one whose result cannot."""

    @step
    def wraps(value: int) -> int:
        odd(value)
        return add(value)

    @pipeline
    def target() -> int:
        return add(wraps(1))

    memory = Kept()
    attempt(target, memory)
    assert sorted(memory.results) == [(0, "wraps"), (1, "add")]
    _, made, _ = attempt(target, memory)
    assert made == []


def test_a_step_whose_annotation_names_nothing_is_remembered_as_json() -> None:
    """A return annotation that cannot be evaluated, of a step that only the run itself finds, fails no run."""

    @step
    def vague(value: int) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        calls.append(f"vague {value}")
        return [value]

    found = [vague]

    @pipeline
    def target(index: int) -> list[int]:
        return list(found[index](1))

    memory = Kept()
    first, _, _ = attempt(target, memory, index=0)
    assert first.status is Status.COMPLETED, first.error
    _, made, _ = attempt(target, memory, index=0)
    assert made == []


def test_a_step_that_fails_is_run_again() -> None:
    """A failed step is not remembered, nor is what was called after it; its own retries are as always."""
    failures = 3

    @step(retries=1)
    def flaky() -> str:
        nonlocal failures
        failures -= 1
        calls.append(f"flaky {failures}")
        if failures > 0:
            raise ValueError("not yet")
        return "done"

    @pipeline
    def target() -> str:
        add(1)
        return flaky()

    memory = Kept()
    first, made, _ = attempt(target, memory)
    assert first.status is Status.FAILED
    assert made == ["add 1 1", "flaky 2", "flaky 1"]
    again, made, told = attempt(target, memory)
    assert again.status is Status.COMPLETED
    assert made == ["flaky 0"]
    assert told == ["step_started flaky", "step_completed flaky"]


def test_steps_that_were_called_before_a_failure_are_remembered() -> None:
    """Of steps side by side, those that succeed are not run again because another one failed first."""
    failed = threading.Event()

    @step
    def picky(value: int, fail: bool) -> int:
        calls.append(f"picky {value}")
        if value == 0 and fail:
            failed.set()
            raise ValueError("zero")
        assert failed.wait(10) or not fail
        return value

    @pipeline
    def target(fail: bool) -> list[int]:
        futures = picky.map([0, 1, 2], fail=True)
        try:
            return futures.result()
        finally:
            for future in futures[1:]:
                future.result()

    memory = Kept()
    first, _, _ = attempt(target, memory, fail=True)
    assert first.status is Status.FAILED
    assert sorted(memory.results) == [(1, "picky"), (2, "picky")]


def test_a_result_belongs_to_its_arguments() -> None:
    """Where calls come in another order than before, no result is given to the wrong one."""

    @pipeline
    async def target(first: int, second: int) -> list[int]:
        async def branch(value: int, turns: int) -> int:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await later(value)

        return await asyncio.gather(branch(1, first), branch(2, second))

    memory = Kept()
    one, _, _ = attempt(target, memory, first=0, second=5)
    other, made, _ = attempt(target, memory, first=5, second=0)
    assert one.outputs_json == other.outputs_json == b'{"output":[10,20]}'
    assert sorted(made) == ["later 1", "later 2"]


def test_arguments_of_any_kind_keep_working() -> None:
    """Iterators, futures and awaitables that are given to steps are not used up by telling arguments apart."""

    @step
    def total(numbers: object) -> int:
        return sum(numbers)  # type: ignore[call-overload,no-any-return]

    @step
    async def awaited(value: object) -> int | str:
        return await value  # type: ignore[misc,no-any-return]

    @pipeline
    async def target() -> list[int | str]:
        return [total(iter([1, 2])), total({1, 2}), await awaited(later.submit(2)), await awaited(letters("ab"))]

    memory = Kept()
    first, _, _ = attempt(target, memory)
    assert first.status is Status.COMPLETED, first.error
    again, made, _ = attempt(target, memory)
    assert again.outputs_json == first.outputs_json
    assert made == []


def test_a_stream_that_is_iterated_over_is_run_anew_and_ends_remembering() -> None:
    """Whoever takes the items one by one gets them anew, and later steps are run again, too."""

    @pipeline
    async def target() -> AsyncIterator[str]:
        add(1)
        async for letter in letters("ab"):  # type: ignore[attr-defined]
            yield letter
        add(2)

    memory = Kept()
    first, _, _ = attempt(target, memory)
    assert sorted(memory.results) == [(0, "add")]
    again, made, told = attempt(target, memory)
    assert again.outputs_json == first.outputs_json
    assert made == ["letters ab", "add 2 1"]
    assert told.count("output_delta letters") == 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_step_does_not_return_before_its_result_is_durable(asynchronous: bool) -> None:
    """The next step begins when the result of this one is kept, and a cancelled run does not wait for that."""

    @pipeline
    def sync() -> int:
        return add(add(1))

    @pipeline
    async def waits() -> int:
        return await later(await later(1))

    async def main() -> None:
        memory = Kept()
        memory.waiting = []
        async with started(waits if asynchronous else sync) as deployment:
            task = asyncio.create_task(deployment.service.invoke({}, run_id="1", memory=memory))
            await until(lambda: memory.waiting)
            await asyncio.sleep(0.02)
            assert len(calls) == 1
            memory.waiting[0].set_result(None)
            await until(lambda: len(memory.waiting or ()) == 2)
            deployment.service.cancel("1", "enough")
            assert (await task).status is Status.CANCELED

    asyncio.run(main())


def test_a_recalled_step_is_a_step_boundary() -> None:
    """A cancelled run ends at a step whose result is known, like at any other."""
    begun, go = threading.Event(), threading.Event()

    @pipeline
    def target() -> int:
        begun.set()
        assert go.wait(10)
        return add(1)

    async def main() -> None:
        memory = Kept()
        go.set()
        async with started(target) as deployment:
            await deployment.service.invoke({}, memory=memory)
            go.clear()
            begun.clear()
            task = asyncio.create_task(deployment.service.invoke({}, run_id="1", memory=memory))
            await asyncio.to_thread(begun.wait, 10)
            deployment.service.cancel("1", "enough")
            go.set()
            assert (await task).status is Status.CANCELED

    asyncio.run(main())


def test_runs_without_a_memory_remember_nothing() -> None:
    """A run that is not given a memory runs every step, whatever ran before it."""

    async def main() -> None:
        async with started(in_place) as deployment:
            await deployment.service.invoke({}, memory=Kept())
            calls.clear()
            await deployment.service.invoke({})
            assert calls == ["add 1 1", "words a b", "outer 3", "add 3 1", "add 4 1"]

    asyncio.run(main())
