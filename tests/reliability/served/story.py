"""Pipelines that tell long stories; they wait where they are told to, until a test lets them go on."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from asgipipe import pipeline, step
from tests.reliability.served.gates import note


def is_open(number: int) -> bool:
    return Path(f"gate-{number}").exists()


async def passed(number: int) -> None:
    """Wait until the file `gate-<number>` appears."""
    while not is_open(number):  # noqa: ASYNC110  # it is made by another process
        await asyncio.sleep(0.005)


@step
async def lines(count: int, gates: list[int]) -> AsyncIterator[str]:
    for number in range(1, count + 1):
        if number in gates:
            await passed(number)
        yield f"line {number} of {count}\n"
        await asyncio.sleep(0)


@step
def closing() -> int:
    note("closing")
    return os.getpid()


def process() -> int:
    return os.getpid()


@pipeline(settings={"custom_endpoints": [{"path": "/process", "method": "GET", "handler": process}]})
async def story(count: int = 3, gates: list[int] | None = None) -> int:
    """Tell `count` lines, waiting before those in `gates`; return the process that came to the end."""
    note("telling")
    await lines(count, gates or [])  # type: ignore[misc]  # inside a run it is the value
    return closing()
