"""Recorded runs, for scripts and notebooks."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from asgipipe.errors import OutsideRunError, StorageFullError, StoreError, UnavailableError
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.stores.registry import database
from asgipipe.tracking.reader import RunReader
from asgipipe.tracking.records import RecordedRun, RunPage

T = TypeVar("T")


class Runs:
    """What was recorded in a store: `with Runs() as runs: runs.list()`.

    `store_url` and `artifact_url` are as in the settings: without the first it is `.asgipipe/store.db` of the working
    directory. `deployment` is the id of the one to look at; without it, all. It is not for code that runs on an event
    loop, which it would block. Every method raises StoreError for a store that cannot be used or reached.
    """

    def __init__(
        self, store_url: str | None = None, *, artifact_url: str | None = None, deployment: str | None = None
    ) -> None:
        self._lazy = LazyDatabase(partial(database, store_url))
        self._reader = RunReader(self._lazy, deployment, artifact_url=artifact_url)
        self._runner = asyncio.Runner()

    def list(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> RunPage:
        """Return the newest runs first; `cursor` is the `next_cursor` of the page before."""
        return self._run(self._reader.page(status=status, pipeline=pipeline, limit=limit, cursor=cursor))

    def get(
        self, run_id: str, *, steps_after: int = 0, logs_after: int = 0, limit: int = 500, inline: int | None = None
    ) -> RecordedRun | None:
        """Return a run with its steps and log records, `limit` of each, and its payloads: `inline` bytes, or all."""
        found = self._reader.get(run_id, steps_after=steps_after, logs_after=logs_after, limit=limit, inline=inline)
        return self._run(found)

    def close(self) -> None:
        self._run(self._lazy.close())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[object, object, T]) -> T:
        if asyncio._get_running_loop() is not None:
            work.close()
            raise OutsideRunError("Runs would block the event loop: use it in a thread, or in code that is not async")
        try:
            return self._runner.run(work)
        except (UnavailableError, StorageFullError) as error:
            raise StoreError(f"{self._lazy.database.place}: {error.detail}") from None
