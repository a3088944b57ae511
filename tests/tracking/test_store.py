"""The same operations on SQLite and PostgreSQL."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgipipe import pipeline, step
from asgipipe.tracking import Runs
from tests.tracking.serving import arithmetic, fragile, on_a_loop, started

FIRST, SECOND = "01a1fc30-0b91-7000-9dd6-68851ed2873f", "01a1fc30-0b91-7001-9dd6-68851ed2873f"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    logging.getLogger("user").setLevel(logging.DEBUG)
    yield str(tmp_path / "store.db") if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    logging.getLogger("user").setLevel(logging.NOTSET)


@step
def echo(text: str) -> str:
    return text


@pipeline
def echoing(text: str) -> str:
    return echo(text)


@on_a_loop
async def test_everything_is_read_as_it_was_written(store_url: str, tmp_path: Path) -> None:
    """Runs, steps, payloads of any size, metadata and log records come back from both stores."""
    async with started(arithmetic, tmp_path, "full", store_url=store_url) as deployment:
        await deployment.service.invoke({"x": 1}, run_id=FIRST, run_name="a\0b")
    async with started(echoing, tmp_path, "BATCH", store_url=store_url) as deployment:
        await deployment.service.invoke({"text": "x" * 70_000}, run_id=SECOND)

    def read() -> None:
        with Runs(store_url) as runs:
            assert [run.id for run in runs.list().runs] == [SECOND, FIRST]
            assert [run.id for run in runs.list(limit=1, cursor=SECOND).runs] == [FIRST]
            small, large = runs.get(FIRST), runs.get(SECOND)
        assert small is not None
        assert large is not None
        assert json.loads(small.metadata or b"")["user"] == {"asked": True}
        assert [(one.name, one.outputs) for one in small.steps] == [
            ("double", b'{"output":2}'),
            ("add_one", b'{"output":3}'),
        ]
        assert [log.message for log in small.logs] == ["doubling 1", "adding to 2"]
        assert len(json.loads(large.parameters or b"")["text"]) == 70_000
        assert len(json.loads(large.steps[0].outputs or b"")["output"]) == 70_000

    await asyncio.to_thread(read)


@on_a_loop
async def test_attempts_filters_and_retention(store_url: str, tmp_path: Path) -> None:
    """The latest attempt stands, runs are found by status, and old ones go."""
    async with started(fragile, tmp_path, "full", store_url=store_url, capture_retention=60) as deployment:
        recorder, invoke = deployment.service._recorder, deployment.service.invoke  # type: ignore[attr-defined]
        for attempt, fail in ((1, True), (3, True), (2, False)):
            await invoke({"fail": fail}, run_id=FIRST, background=True, attempt=attempt, capture=b'{"mode":"BATCH"}')
        await invoke({"fail": False}, run_id=SECOND, capture=b'{"mode":"BATCH"}')

        def read(status: str) -> list[tuple[str, int]]:
            with Runs(store_url) as runs:
                return [(run.id, run.attempt) for run in runs.list(status=status).runs]

        assert await asyncio.to_thread(read, "failed") == [(FIRST, 3)]
        assert await asyncio.to_thread(read, "completed") == [(SECOND, 1)]
        assert await asyncio.to_thread(read, "running") == []
        now = recorder._clock()
        recorder._clock = lambda: now + 61
        assert await recorder.prune() == 2
        assert await recorder.prune() == 0
        assert await asyncio.to_thread(read, "failed") == []
