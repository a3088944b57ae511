import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.reliability import raw
from tests.servers.command import MANY_WORKERS, serving, until

APP = """
import asyncio, pathlib

VERSION = {version}

async def app(wait: bool = False) -> int:
    if wait:
        pathlib.Path("waiting").touch()
    while wait and not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    return VERSION
"""


class Asking:
    """Asks all the time, on a new connection each time; `heard` counts what the answers were."""

    def __init__(self, port: int) -> None:
        self.heard: Counter[object] = Counter()
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.005):
            self.heard[self._answer()] += 1

    def _answer(self) -> object:
        try:
            answer = raw.ask(self._port, raw.invoke())
        except (OSError, AssertionError, ValueError) as error:
            return repr(error)
        return answer.json()["outputs"]["output"] if answer.status == 200 else answer.status


Write = Callable[[int], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(version: int) -> None:
        # Python takes a module from its cache when size and second of the source are as they were.
        (tmp_path / "app.py").write_text(APP.format(version=version) + "#" * version)

    return write


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_reloading_again_and_again_loses_nothing(tmp_path: Path, write: Write, server: str, workers: int) -> None:
    """Row 25: after each of ten SIGHUPs the edited code answers, and no new connection ever meets an error."""
    write(0)
    with serving("app.py", "--server", server, "--workers", workers, folder=tmp_path) as running:
        port = running.port
        with raw.Connection(port) as before, Asking(port) as asking:
            before.send(raw.invoke({"wait": True}))
            until((tmp_path / "waiting").exists, "the run to begin")
            for version in range(1, 11):
                write(version)
                running.signal(signal.SIGHUP)
                running.until_says(r"reloaded: \d new workers serve", version)
                until(lambda version=version: asking.heard[version] > 3, f"answers of {version}")
            (tmp_path / "open").touch()
            assert before.answer().json()["outputs"] == {"output": 0}
        assert set(asking.heard) == set(range(11)), asking.heard
        assert running.stop() == 0, running.output
        assert "ended with status" not in running.output


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_a_reload_that_fails_changes_nothing(tmp_path: Path, write: Write, server: str, workers: int) -> None:
    """Row 25: where the new settings are wrong, the workers before them serve on, and the log says why."""
    write(0)
    settings = tmp_path / "s.yaml"
    settings.write_text("settings: {deployment: {app_title: first}}\n")
    with serving("app.py", "-c", settings, "--server", server, "--workers", workers, folder=tmp_path) as running:
        port = running.port
        with Asking(port) as asking:
            settings.write_text("settings: {deployment: {app_titel: second}}\n")
            running.signal(signal.SIGHUP)
            running.until_says("the reload is given up.*app_titel.*did you mean app_title")
            until(lambda: asking.heard[0] > 3, "answers")
            settings.write_text("settings: {deployment: {app_title: third}}\n")
            running.signal(signal.SIGHUP)
            running.until_says(r"reloaded: \d new workers serve")
        assert set(asking.heard) == {0}
        titles = set()
        for _ in range(10):
            titles.add(raw.ask(port, raw.request("GET", "/openapi.json")).json()["info"]["title"])
        assert titles == {"third"}
        assert running.stop() == 0, running.output
        assert len(re.findall("serves on", running.output)) == 1


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_open_connections_are_answered_once_more(tmp_path: Path, write: Write, server: str, workers: int) -> None:
    """Row 25: a kept-alive connection to a worker that is replaced gets its next answer, with `connection: close`."""
    write(0)
    with serving("app.py", "--server", server, "--workers", workers, folder=tmp_path) as running:
        with raw.Connection(running.port) as connection:
            assert connection.ask(raw.invoke()).header(b"connection") is None
            running.signal(signal.SIGHUP)
            running.until_says(r"reloaded: \d new workers serve")
            answers = [connection.ask(raw.invoke())]
            while answers[-1].header(b"connection") is None:  # the signal to the worker may be slower than this
                answers.append(connection.ask(raw.invoke()))
            assert {answer.status for answer in answers} == {200}
            assert answers[-1].header(b"connection") == b"close"
        assert running.stop() == 0, running.output
