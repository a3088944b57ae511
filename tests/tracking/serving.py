"""Deployments whose runs are recorded, and what they have left behind."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from asgipipe import Deployment, get_step_context, pipeline, step
from asgipipe.tracking import RecordedRun, Runs

log = logging.getLogger("user.code")

P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test that is a coroutine function."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@asynccontextmanager
async def started(
    target: object, folder: Path, capture: object = None, **settings: object
) -> AsyncIterator[Deployment]:
    """Start a deployment with its store in `folder`."""
    values = {"store_url": str(folder / "store.db"), **settings}
    if capture is not None:
        values["capture"] = capture
    deployment = Deployment(target, values)
    await deployment.start()
    try:
        yield deployment
    finally:
        await deployment.stop()


async def run_once(target: object, folder: Path, capture: object, **parameters: object) -> str:
    """Run a pipeline once in a deployment of its own and return the run's id."""
    async with started(target, folder, capture) as deployment:
        return (await deployment.service.invoke(parameters)).id


def recorded(folder: Path, run_id: str) -> RecordedRun | None:
    with Runs(str(folder / "store.db")) as runs:
        return runs.get(run_id)


def counts(folder: Path) -> dict[str, int]:
    """Return how many rows each table of recorded runs has; a store that is about to be made has none.

    Runs are those in bundles, too.
    """
    connection = sqlite3.connect(folder / "store.db")
    tables = ("runs", "run_steps", "artifacts", "run_logs")
    try:
        if connection.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'run_logs'").fetchone() == (0,):
            return dict.fromkeys(tables, 0)
        found = {table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608
        (bundled,) = connection.execute("SELECT COALESCE(SUM(count), 0) FROM run_bundles").fetchone()
        return {**found, "runs": found["runs"] + bundled}
    finally:
        connection.close()


@step
def double(x: int) -> int:
    get_step_context().add_metadata({"doubled": x})
    log.info("doubling %d", x)
    return 2 * x


@step
async def add_one(x: int) -> int:
    log.error("adding to %d", x)
    return x + 1


@pipeline
async def arithmetic(x: int = 1) -> int:
    get_step_context().add_metadata({"asked": True})
    return await add_one(double(x))


@step(retries=2)
def flaky(fail: bool) -> str:
    log.warning("trying")
    if fail:
        raise ValueError("no such luck")
    return "fine"


@pipeline
def fragile(fail: bool = True) -> str:
    return flaky(fail)
