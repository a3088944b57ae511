"""A pipeline with large answers, and endpoints that stream without end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

from asgipipe import pipeline

PIECE = "x" * 65_536

logger = logging.getLogger("streams")


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


async def ticks() -> AsyncIterator[str]:
    try:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(0)
        logger.warning("generator closed")


def clean_up() -> None:
    logger.warning("cleaned up")


@pipeline(on_cleanup=clean_up, settings={"custom_endpoints": [{"path": "/ticks", "method": "GET", "handler": ticks}]})
def endless() -> int:
    return 1
