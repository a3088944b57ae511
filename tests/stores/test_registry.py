import builtins
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
