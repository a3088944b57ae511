"""Pipelines for many requests."""

import asyncio


async def brief(text: str = "") -> int:
    """Hold a place for a moment."""
    await asyncio.sleep(0.002)
    return len(text)


def numbers(values: list[int] | None = None) -> int:
    """Take a list of any length."""
    return len(values or ())


def text(size: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size
