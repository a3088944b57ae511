"""Pipelines that a dashboard has something to show of."""

import asyncio
import time
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from asgipipe import get_step_context, pipeline, step

PAUSE = 0.1  # seconds: more than a page takes to show a piece


class Colour(Enum):
    RED = "red"
    WHITE = "white"


class Wine(BaseModel):
    name: str = Field(min_length=2, description="As on the label.")
    year: int = Field(ge=1900, le=2100)
    tags: list[str] = []


class Courier(BaseModel):
    kind: Literal["courier"] = "courier"
    floor: int = 0


class Pickup(BaseModel):
    kind: Literal["pickup"] = "pickup"
    shop: str = "main street"


COURIER = Courier()


@step
def gather(wines: list[Wine], colour: Colour) -> list[str]:
    return [f"{wine.name} {wine.year} {colour.value}" for wine in wines]


@step
async def pack(names: list[str], wait: float) -> int:
    context = get_step_context()
    context.progress(0.5, "half of them are packed")
    await asyncio.sleep(wait)
    if not names:
        raise ValueError("there is nothing to pack <b>")
    return len(names)


@step
def tell(names: list[str], count: int) -> Iterator[str]:
    for piece in (*(f"{name}, " for name in names), f"{count} ", "in ", "all"):
        time.sleep(PAUSE)
        yield piece


@step
def gild(text: str) -> str:
    return text.upper()


@pipeline
def order(
    wines: list[Wine],
    colour: Colour = Colour.RED,
    way: Annotated[Courier | Pickup, Field(discriminator="kind")] = COURIER,
    note: str | None = None,
    prices: dict[str, float] | None = None,
    wait: float = Field(0, ge=0, le=60),
    number: int = 1,
    gift: bool = False,
) -> Annotated[str, "receipt"]:
    """Packs an order of wines and tells what is in it."""
    names = gather(wines, colour)
    count = pack(names, wait)
    text = "".join(tell(names, count))
    if gift:
        text = gild(text)
    return text
