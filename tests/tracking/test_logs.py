import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgipipe import pipeline, step
from asgipipe.logs import MAX_LINE
from asgipipe.tracking import Runs
from asgipipe.tracking.logs import RunLogHandler, text_of
from tests.tracking.serving import on_a_loop, run_once, started

log = logging.getLogger("user.logs")


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)


@step
def telling(text: str) -> None:
    log.debug(text)


@pipeline
def talking(count: int = 1) -> None:
    telling.submit("in a thread").result()
    for number in range(count):
        log.warning("number %d", number)


def messages(folder: Path, run_id: str) -> list[str]:
    with Runs(str(folder / "store.db")) as runs:
        found = runs.get(run_id, limit=20_000)
        assert found is not None
        return [record.message for record in found.logs]


def test_threads_are_included(tmp_path: Path) -> None:
    """What a submitted step logs in its thread belongs to its run; what others log meanwhile does not."""
    run_ids = []

    @on_a_loop
    async def serve() -> None:
        async with started(talking, tmp_path, "full") as deployment:
            run_ids.append((await deployment.service.invoke({"count": 2})).id)
            log.error("outside")
            run_ids.append((await deployment.service.invoke({"count": 1})).id)

    serve()
    assert [messages(tmp_path, run_id) for run_id in run_ids] == [
        ["in a thread", "number 0", "number 1"],
        ["in a thread", "number 0"],
    ]


def test_the_host_keeps_its_logging(tmp_path: Path) -> None:
    """One handler comes with the first run that needs it and goes at the stop; levels and others stay."""
    root = logging.getLogger()
    before, levels = list(root.handlers), (root.level, log.level)

    @on_a_loop
    async def serve() -> None:
        async with started(talking, tmp_path, "full") as deployment:
            assert root.handlers == before
            for _ in range(3):
                await deployment.service.invoke({"count": 1})
            (ours,) = [handler for handler in root.handlers if handler not in before]
            assert isinstance(ours, RunLogHandler)

    serve()
    assert root.handlers == before
    assert (root.level, log.level) == levels


def test_python_prints_what_nobody_handles(tmp_path: Path) -> None:
    """Where no handler is configured, warnings still reach stderr, once, while runs are recorded."""
    program = """
import asyncio, logging, sys
from asgipipe import Deployment, pipeline
@pipeline(capture="full")
async def p() -> None:
    logging.getLogger("user").warning("once only")
async def main():
    deployment = Deployment(p, {"store_url": sys.argv[1]})
    await deployment.start()
    await deployment.service.invoke({})
    logging.getLogger("user").warning("outside")
    await deployment.stop()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store.db")], capture_output=True, text=True, timeout=50
    )
    assert done.stderr.splitlines() == ["once only", "outside"]


@on_a_loop
async def test_listeners_get_logs(tmp_path: Path) -> None:
    """The listener of a run gets a `log` event for each record of level INFO and up."""
    events: list[tuple[str, str | None, dict[str, object]]] = []

    @step
    def noisy() -> None:
        log.debug("too fine")
        log.info("heard %s", "well")

    @pipeline
    async def loud() -> None:
        noisy()

    async with started(loud, tmp_path) as deployment:
        listener = lambda kind, name, data: events.append((kind, name, dict(data)))  # noqa: E731
        await deployment.service.invoke({}, listener=listener)
    heard = [event for event in events if event[0] == "log"]
    assert heard == [("log", "noisy", {"level": "info", "logger": "user.logs", "message": "heard well"})]


@on_a_loop
async def test_a_listener_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes wrong while a record is taken is told on stderr, never to the code that logs."""

    @pipeline
    async def loud() -> str:
        log.warning("hello")
        return "fine"

    def listener(kind: str, name: str | None, data: object) -> None:
        raise OSError("the listener broke")

    async with started(loud, tmp_path) as deployment:
        run = await deployment.service.invoke({}, listener=listener)
    assert run.outputs_json == b'{"output":"fine"}'
    assert "the listener broke" in capsys.readouterr().err


def test_the_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most that are kept of a run, one record says so."""
    monkeypatch.setattr("asgipipe.tracking.capture.MAX_LOGS", 5)
    run_ids = []

    @on_a_loop
    async def serve() -> None:
        run_ids.append(await run_once(talking, tmp_path, "full", count=50))

    serve()
    found = messages(tmp_path, run_ids[0])
    assert len(found) == 6
    assert found[-1] == "further log records of this run are not kept"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_texts() -> None:
    """A message is bounded, holds its exception, survives wrong arguments, and fits into any database."""

    def record(message: object, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
        information = None if error is None else (type(error), error, None)
        return logging.LogRecord("user", logging.ERROR, "f.py", 1, message, arguments, information)

    assert len(text_of(record("x" * 1_000_000)).encode()) <= MAX_LINE
    assert text_of(record("failed", error=ValueError("why"))) == "failed\nValueError: why"
    assert text_of(record("%d", "no number")).startswith("%d (cannot be printed")
    assert text_of(record(Unprintable())) == "<Unprintable> (cannot be printed: RuntimeError)"
    assert text_of(record("a\0b \ud800")) == "a\\x00b \\ud800"


def test_no_lock_is_held(tmp_path: Path) -> None:
    """A listener that waits in one thread keeps no other thread from logging."""
    waiting, go_on = threading.Event(), threading.Event()

    @step
    def stuck() -> None:
        log.warning("stuck")

    @pipeline
    def loud() -> None:
        stuck()

    def listener(kind: str, name: str | None, data: object) -> None:
        if kind == "log":
            waiting.set()
            assert go_on.wait(10)

    @on_a_loop
    async def serve() -> None:
        async with started(loud, tmp_path) as deployment:
            task = asyncio.create_task(deployment.service.invoke({}, listener=listener))
            await asyncio.to_thread(waiting.wait, 10)
            log.warning("from the event loop")
            go_on.set()
            await task

    serve()
