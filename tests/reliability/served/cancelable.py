"""Pipelines of three steps that can be held in each of them, and after each, until they are cancelled."""

import asyncio
import time

from asgipipe import get_step_context, pipeline, step
from tests.reliability.served.mortal import effect


def hold(here: str, place: str) -> None:
    """Wait in a thread for a cancel, if `here` is the place to wait at; clean up."""
    if here != place:
        return
    effect("waiting")
    try:
        while not get_step_context().cancelled:
            time.sleep(0.005)
    finally:
        effect("cleaned")


async def hold_async(here: str, place: str) -> None:
    if here != place:
        return
    effect("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        effect("cleaned")


@step
def sync_step(name: str, place: str) -> str:
    effect(name)
    hold(name, place)
    return name


@step
async def async_step(name: str, place: str) -> str:
    effect(name)
    await hold_async(name, place)
    return name


@pipeline
def cancelable_sync(place: str = "") -> None:
    try:
        for name in ("first", "second", "third"):
            sync_step(name, place)
            hold(f"after-{name}", place)
    finally:
        effect("left")


@pipeline
async def cancelable(place: str = "") -> None:
    try:
        for name in ("first", "second", "third"):
            await async_step(name, place)
            await hold_async(f"after-{name}", place)
    finally:
        effect("left")
