"""Pipelines whose hooks tell when they are called, and fail or hang when `NAUGHTY` names them.

`NAUGHTY` is `<hook>:<what it does>`, such as `on_init:raise`.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from asgipipe import DeploymentSettings, pipeline

NAUGHTY, _, DEED = os.environ.get("NAUGHTY", "").partition(":")


def note(text: str) -> None:
    with Path("notes.txt").open("a", encoding="utf-8") as file:
        file.write(f"{text} {os.getpid()}\n")


def gate_is_open() -> bool:
    return Path("open").exists()


def misbehave() -> None:
    if DEED == "exit":
        raise SystemExit(0)
    if DEED == "interrupt":
        raise KeyboardInterrupt
    if DEED == "hang":
        time.sleep(60)
    raise RuntimeError("no model file")


def sync_hook(name: str) -> Callable[[], None]:
    def hook() -> None:
        note(name)
        if name == NAUGHTY:
            misbehave()
        note(f"{name}-done")

    return hook


def async_hook(name: str) -> Callable[[], object]:
    async def hook() -> None:
        note(name)
        if name == NAUGHTY and DEED == "hang":
            await asyncio.sleep(60)
        if name == NAUGHTY and DEED == "gate":
            while not gate_is_open():  # noqa: ASYNC110  # it is opened by another process
                await asyncio.sleep(0.005)
        elif name == NAUGHTY:
            misbehave()
        note(f"{name}-done")

    return hook


@asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[None]:
    note("lifespan-begin")
    try:
        yield
    finally:
        note("lifespan-end")


@pipeline(
    on_init=sync_hook("on_init"),
    on_cleanup=async_hook("on_cleanup"),
    settings=DeploymentSettings(
        startup_hook=async_hook("startup_hook"),
        shutdown_hook=sync_hook("shutdown_hook"),
        app_kwargs={"lifespan": lifespan},
    ),
)
async def hooked(wait: bool = False) -> int:
    note("run")
    if wait:
        await asyncio.Event().wait()
    return os.getpid()


@pipeline(
    on_init=async_hook("on_init"),
    on_cleanup=sync_hook("on_cleanup"),
    settings={"startup_hook": sync_hook("startup_hook"), "shutdown_hook": async_hook("shutdown_hook")},
)
def mirrored() -> int:
    return os.getpid()


@pipeline(
    on_init=async_hook("on_init"),
    on_cleanup=async_hook("on_cleanup"),
    settings={"startup_hook": sync_hook("startup_hook"), "shutdown_hook": sync_hook("shutdown_hook")},
)
async def waiting() -> str:
    note("run")
    while not gate_is_open():  # noqa: ASYNC110  # it is opened by another process
        await asyncio.sleep(0.005)
    return "done"
