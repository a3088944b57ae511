"""A deployment that tells which threads, tasks and descriptors its process has."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pydantic import BaseModel

from asgipipe import pipeline, step
from asgipipe.http.sse import EventStream
from asgipipe.jobs.attempt import Attempt
from asgipipe.jobs.memory import JobMemory
from asgipipe.jobs.recording import Recording
from asgipipe.jobs.records import Job
from asgipipe.pipelines.context import Run


class Inside(BaseModel):
    """Names of threads and of the functions that tasks run, the number of open descriptors, and what runs leave."""

    threads: list[str]
    tasks: list[str]
    descriptors: int
    objects: dict[str, int]


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def objects_of(*kinds: type) -> dict[str, int]:
    """Count the objects of these classes."""
    found = Counter(type(each) for each in gc.get_objects())
    return {kind.__name__: found[kind] for kind in kinds}


async def inside() -> Inside:
    """Count once everything that could be collected is."""
    gc.collect()
    return Inside(
        threads=sorted(thread.name for thread in threading.enumerate()),
        tasks=sorted(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()),
        descriptors=open_descriptors(),
        objects=objects_of(Run, Job, Attempt, Recording, JobMemory, EventStream),
    )


def counting(limit: int = 3) -> Iterator[str]:
    for number in range(limit):
        yield f"{number}\n"


async def counting_async(limit: int = 3) -> AsyncIterator[str]:
    for number in range(limit):
        yield f"{number}\n"
        await asyncio.sleep(0)


def fails() -> int:
    raise ValueError("no such thing")


ENDPOINTS = [
    {"path": "/inside", "method": "GET", "handler": inside},
    {"path": "/counting", "method": "GET", "handler": counting},
    {"path": "/counting-async", "method": "GET", "handler": counting_async},
    {"path": "/fails", "method": "GET", "handler": fails},
]


@step
def double(number: int) -> int:
    return 2 * number


@step(timeout=30, retries=1)
async def patient(number: int) -> int:
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError("negative")
    return number


@pipeline(settings={"custom_endpoints": ENDPOINTS})
async def mixed(number: int = 1, items: list[str] | None = None) -> int:
    """Sync and async steps, some of them submitted."""
    futures = [double.submit(number), double.submit(number + 1)]
    return await patient(number) + sum([await future for future in futures]) + len(items or ())
