"""A pipeline with large answers, and endpoints that stream without end."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from asgipipe import pipeline

PIECE = "x" * 65_536


def stream() -> Iterator[str]:
    while True:
        yield PIECE


async def stream_async() -> AsyncIterator[str]:
    while True:
        yield PIECE
        await asyncio.sleep(0)


ENDPOINTS = [
    {"path": "/stream", "method": "GET", "handler": stream},
    {"path": "/stream-async", "method": "GET", "handler": stream_async},
]


@pipeline(settings={"custom_endpoints": ENDPOINTS})
def streams(size: int) -> str:
    return "x" * size
