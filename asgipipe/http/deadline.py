"""Time limits that cost nothing when nobody has to wait."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """Await `work`; raise TimeoutError when it takes longer than `seconds` (None: no limit).

    A timer costs about 4 µs, so it is armed only when `work` suspends: what is already there is returned as it is.
    """
    steps = work.__await__()
    try:
        pending = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds) as deadline:
        try:
            return await resumed(steps, pending)
        except Exception as error:  # boundary: work may turn its cancellation into any error of its own
            if deadline.expired():
                raise TimeoutError from error
            raise


@types.coroutine
def resumed(steps: Generator[object, object, T], pending: object) -> Generator[object, object, T]:
    """Carry on with an awaitable that was stepped to its first suspension (the delegation of PEP 380, begun late)."""
    while True:
        try:
            sent = yield pending
        except BaseException as error:  # boundary: cancellation is meant for what is suspended
            step: Callable[[], object] = partial(steps.throw, error)
        else:
            step = partial(steps.send, sent)
        try:
            pending = step()
        except StopIteration as done:
            result: T = done.value
            return result
