"""What a type checker says of decorated functions; nothing here runs, mypy reads it.

A `type: ignore` is a mistake that must be found: it is an error itself where there is nothing to ignore.
"""

# mypy: disable-error-code="unused-awaitable, unused-coroutine"

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from asgipipe import Pipeline, Step, StepContext, get_step_context, pipeline, step
from asgipipe.pipelines.future import StepFuture, StepFutures


@step
def double(value: int, *, exactly: bool = True) -> float:
    return 2 * value


@step(name="later", retries=3, retry_delay=0.5, timeout=2)
async def later(text: str) -> int:
    return len(text)


@step
def words(text: str) -> Iterator[str]:
    yield from text.split()


@pipeline
def sync(value: int, name: str = "") -> float:
    return double(value)


@pipeline(name="other", blocking=False, on_init="package.module:load", settings={"uvicorn_port": 1})
async def asynchronous(value: int) -> str:
    return str(value)


@pipeline
async def streams(text: str) -> AsyncIterator[str]:
    yield text


# Steps keep their signature


assert_type(double(1), float)
assert_type(double(1, exactly=False), float)
assert_type(later("text"), Coroutine[Any, Any, int])
assert_type(words("text"), Iterator[str])
double("1")  # type: ignore[arg-type]
double(1, True)  # type: ignore[call-arg]
double()  # type: ignore[call-arg]
double(1, exact=True)  # type: ignore[call-arg]


async def awaits() -> None:
    assert_type(await later("text"), int)
    assert_type(await later.submit("text"), int)
    assert_type(await double.submit(1), float)
    assert_type(await later.map(["text"]), list[int])
    assert_type(await double.map([1, 2]), list[float])


# Futures know what is to come


assert_type(double.submit(1), StepFuture[float])
assert_type(later.submit("text"), StepFuture[int])
assert_type(double.submit(1).result(), float)
assert_type(later.submit("text").result(timeout=1), int)
assert_type(double.map([1, 2]), StepFutures[float])
assert_type(later.map(["a"]), StepFutures[int])
assert_type(double.map([1, 2]).result(), list[float])
assert_type(later.map(["a"]).result(), list[int])
double.submit("1")  # type: ignore[arg-type]
later.submit(1)  # type: ignore[call-overload]


# Pipelines keep theirs


assert_type(sync(1, name="a"), float)
assert_type(asynchronous(1), Coroutine[Any, Any, str])
assert_type(streams("a"), AsyncIterator[str])
sync("1")  # type: ignore[arg-type]
sync()  # type: ignore[call-arg]
pipeline(nmae="typo")  # type: ignore[call-overload]
step(retires=3)  # type: ignore[call-overload]
pipeline(3)  # type: ignore[call-overload]


# Copies are of the same type


assert_type(double.with_options(name="other")(1), float)
assert_type(double.with_options(retries=1).submit(1), StepFuture[float])
assert_type(sync.with_options(name="other")(1), float)
double.with_options(retries="many")  # type: ignore[arg-type]


# They fit where a callable, a step or a pipeline is wanted


def takes(function: Callable[[int], float], one: Step[..., object], other: Pipeline[..., object]) -> None: ...


takes(double, double, sync)
takes(sync, later, asynchronous)
takes(later, double, sync)  # type: ignore[arg-type]
takes(double, sync, double)  # type: ignore[arg-type]

assert_type(get_step_context(), StepContext)
assert_type(get_step_context().run_id, str)
assert_type(get_step_context().step_name, str | None)
