import builtins
import subprocess
import sys
from pathlib import Path

import pytest

from asgipipe.errors import StoreError
from asgipipe.stores.registry import database
from asgipipe.stores.sqlite import SQLiteDatabase


def test_the_default_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the store is in `.asgipipe` below the directory of the moment, also after a change of directory."""
    monkeypatch.chdir(tmp_path)
    made = database(None)
    monkeypatch.chdir("/")
    assert made.place == str(tmp_path / ".asgipipe" / "store.db")
    assert not (tmp_path / ".asgipipe").exists()


@pytest.mark.parametrize("url", ["data/store.db", "~/store.db", "memory"])
def test_a_path_is_a_file(url: str) -> None:
    """Whatever is neither `memory:` nor a URL is the path of a file; `~` is the home of the user."""
    made = database(url)
    assert isinstance(made, SQLiteDatabase)
    assert made.place == str(Path(url).expanduser().absolute())


def test_memory_is_no_file() -> None:
    """`memory:` names no file."""
    assert database("memory:").place == "memory:"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver of PostgreSQL the error says what to install."""
    for name in [name for name in sys.modules if name.startswith(("psycopg", "asgipipe.stores.postgresql"))]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name: str, *args: object) -> object:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(StoreError, match=r'pip install "asgipipe\[postgres\]"'):
        database("postgresql://user@host/name")


WITHOUT_STORE = """
import asyncio, sys
from asgipipe import Deployment, pipeline

async def main():
    deployment = Deployment(pipeline(lambda: 1), {"store_url": "store.db"}, layers=())
    await deployment.start()
    await deployment.service.invoke({})
    await deployment.stop()

asyncio.run(main())
print("_sqlite3" in sys.modules)
"""


def test_what_nobody_opens_is_not_loaded(tmp_path: Path) -> None:
    """A deployment that has no store, and keeps nothing, runs without SQLite's library."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_STORE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("False\n", "")
    assert not list(tmp_path.iterdir())
