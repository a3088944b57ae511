"""Servers in a folder of their own, and what their pipelines write there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from tests import conftest
from tests.postgresql import PostgreSQLServer
from tests.reliability.killing import Host, Site, Store, pass_time
from tests.servers.command import Command, serving, until

SERVED = Path(__file__).parent / "served"


class Serve(Protocol):
    def __call__(self, target: str, *arguments: object, **environment: str) -> AbstractContextManager[Command]: ...


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve a target of the folder `served` with `tmp_path` as its working folder."""

    def serve(target: str, *arguments: object, **environment: str) -> AbstractContextManager[Command]:
        return serving(SERVED / target, *arguments, folder=tmp_path, environment=environment)

    return serve


start_server = conftest.serve
"""The fixture of the whole suite under another name: it starts any program, as often as a test asks."""


class MakeSite(Protocol):
    def __call__(self, host: Host, store: Store, **settings: str) -> Site: ...


@pytest.fixture
def make_site(tmp_path: Path, start_server: conftest.Serve) -> Iterator[MakeSite]:
    """Return a function that makes a site in `tmp_path`; its servers are killed when the test ends."""
    with ExitStack() as stack:

        def make_site(host: Host, store: Store, **settings: str) -> Site:
            return stack.enter_context(closing(Site(tmp_path, start_server, host, store, settings)))

        yield make_site


@pytest.fixture(params=["sqlite", "postgresql"])
def job_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return Store(str(tmp_path / "store.db"))
    url: str = request.getfixturevalue("postgresql_url")
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    return Store(url, partial(pass_time, server, url))


class Notes:
    """What the pipelines of a test have noted."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notes.txt"
        self._gate = folder / "open"

    def words(self) -> list[str]:
        return [line.split()[0] for line in self._lines()]

    def of_each_process(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in self._lines():
            word, _, pid = line.partition(" ")
            found.setdefault(pid, []).append(word)
        return found

    def until(self, word: str, times: int = 1) -> None:
        until(lambda: self.words().count(word) >= times, f"{times} times {word!r} in {self.words()}")

    def open_gate(self) -> None:
        self._gate.touch()

    def shut_gate(self) -> None:
        self._gate.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)
