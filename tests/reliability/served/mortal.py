"""Pipelines of three steps, each with an effect on the world, whose process dies where their run name says."""

import asyncio
import os
import time
from pathlib import Path

from asgipipe import get_step_context, pipeline, step
from asgipipe.stores.lane import Connection
from asgipipe.stores.sqlite.connection import SQLiteConnection
from tests.reliability.served.deaths import arrive, install


def connections() -> list[type[Connection]]:
    if not os.environ["ASGIPIPE_STORE_URL"].startswith("postgresql:"):
        return [SQLiteConnection]
    from asgipipe.stores.postgresql.connection import Connection as PostgreSQLConnection

    return [PostgreSQLConnection]


install(connections())


def effect(text: str) -> None:
    """Note in a file, durably, what a run does."""
    context = get_step_context()
    line = f"{context.run_id} {text} {os.getpid()}\n"
    file = os.open("effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def work(name: str) -> None:
    arrive(f"{name}.begun")
    effect(name)
    arrive(f"{name}.effect")


@step
def first(number: int) -> int:
    work("first")
    return number + 1


@step
async def second(number: int) -> int:
    work("second")
    return number + 1


@step
async def gate(name: str) -> None:
    """Wait until a file of this name appears, if there is a name."""
    if not name:
        return
    effect("waiting")
    try:
        while not Path(name).exists():  # noqa: ASYNC110, ASYNC240  # it is made by another process
            await asyncio.sleep(0.005)
    finally:
        effect("left")


@step
def wait_in_thread(name: str) -> None:
    """Do what `gate` does, where only looking ends it."""
    if not name:
        return
    effect("waiting")
    try:
        while not (Path(name).exists() or get_step_context().cancelled):
            time.sleep(0.005)
    finally:
        effect("left")


@step
def third(number: int) -> int:
    work("third")
    return number + 1


@pipeline
async def mortal(number: int = 0, gated: str = "", failures: int = 0, pause: float = 0.0) -> int:
    """Count to `number` + 3, and fail before the last step as often as `failures` says."""
    arrive("pipeline.begun")
    number = await first.submit(number)
    number = await second(number)
    await gate(gated)
    await asyncio.sleep(pause)
    fail_at_first(failures)
    number = await third.submit(number)
    arrive("pipeline.end")
    return number


@pipeline
def mortal_sync(number: int = 0, gated: str = "", failures: int = 0, pause: float = 0.0) -> int:
    """Do the same in a thread."""
    arrive("pipeline.begun")
    number = first(number)
    number = second(number)  # type: ignore[assignment]  # the run's event loop awaits it
    wait_in_thread(gated)
    time.sleep(pause)
    fail_at_first(failures)
    number = third(number)
    arrive("pipeline.end")
    return number


def fail_at_first(failures: int) -> None:
    """Raise in the first `failures` attempts."""
    run_id = get_step_context().run_id
    for attempt in range(failures):
        try:
            Path(f"failed-{run_id}-{attempt}").touch(exist_ok=False)
        except FileExistsError:
            continue
        raise ValueError("not yet")
