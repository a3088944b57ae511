"""A pipeline that waits until its followers are there, then yields one event after the other."""

import asyncio
from collections.abc import AsyncIterator

from asgipipe import pipeline, step
from tests.benchmarks.contenders import gate


@step
async def feed(count: int) -> AsyncIterator[str]:
    if count:
        await gate.opened()
    for number in range(count):
        yield f"event number {number}"
        await asyncio.sleep(0)


@pipeline(name="feed")
async def pipe(count: int = 0) -> int:
    return len(await feed(count))
