"""Pipelines that wait until a file named `open` appears, and tell in `notes.txt` how far they are."""

import asyncio
import os
import time
from pathlib import Path

from asgipipe import pipeline, step


def note(text: str) -> None:
    with Path("notes.txt").open("a", encoding="utf-8") as file:
        file.write(f"{text} {os.getpid()}\n")


def gate_is_open() -> bool:
    return Path("open").exists()


@step
def wait_here() -> None:
    note("waiting")
    while not gate_is_open():
        time.sleep(0.005)


@step
async def wait_there() -> None:
    note("waiting")
    try:
        while not gate_is_open():  # noqa: ASYNC110  # it is opened by another process
            await asyncio.sleep(0.005)
    finally:
        note("left")


@step
def after(number: int) -> int:
    note("after")
    return number


@pipeline
def sync_gate(number: int = 0) -> int:
    wait_here()
    return after(number)


@pipeline
async def async_gate(number: int = 0) -> int:
    await wait_there()
    return after(number)
