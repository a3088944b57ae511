import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asgipipe.errors import StoreError
from asgipipe.stores import migrations
from asgipipe.stores.schema import SQLITE, STEPS, statements
from asgipipe.stores.sqlite import SQLiteDatabase
from asgipipe.stores.sqlite.file import APPLICATION_ID
from tests.stores.sqlite.faults import process


def open_and_close(path: Path) -> None:
    async def scenario() -> None:
        made = SQLiteDatabase(path)
        await made.open()
        await made.close()

    asyncio.run(scenario())


def make(path: Path, version: int, steps: int) -> None:
    """Make a store with the first steps of the schema, and one row in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for step in STEPS[:steps]:
            for statement in statements(step, SQLITE):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO events (job_id, id, type, at, data) VALUES ('old', 1, 'log', 0, x'')")


def contents(path: Path) -> tuple[object, ...]:
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return connection.execute("PRAGMA user_version").fetchone()[0], tables >= {"jobs", "runs"}


def test_a_fresh_file_is_marked_as_ours(tmp_path: Path) -> None:
    """A new store has our mark, the newest version, and every table."""
    path = tmp_path / "store.db"
    open_and_close(path)
    assert contents(path) == (migrations.VERSION, True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    """A file without a byte is a fresh store."""
    path = tmp_path / "store.db"
    path.touch()
    open_and_close(path)
    assert contents(path) == (migrations.VERSION, True)


def test_an_older_store_is_brought_up_to_date(tmp_path: Path) -> None:
    """A store that lacks the later steps gets them, and keeps its rows."""
    path = tmp_path / "store.db"
    make(path, 1, 1)
    open_and_close(path)
    assert contents(path) == (migrations.VERSION, True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT job_id FROM events").fetchall() == [("old",)]


OPEN = """
import asyncio, sys
from pathlib import Path
from asgipipe.stores.sqlite import SQLiteDatabase

async def main():
    database = SQLiteDatabase(Path(sys.argv[1]))
    sys.stdin.readline()
    await database.open()
    await database.close()
    print("opened", flush=True)

asyncio.run(main())
"""


def test_two_processes_bring_it_up_to_date_at_once(tmp_path: Path) -> None:
    """Of two processes that find an older store at the same moment both open it, and each step is done once."""
    path = tmp_path / "store.db"
    make(path, 1, 1)
    with process(OPEN, path) as first, process(OPEN, path) as second:
        for running in (first, second):
            assert running.stdin is not None
            running.stdin.write("\n")
            running.stdin.flush()
        for running in (first, second):
            assert running.stdout is not None
            assert running.stdout.readline() == "opened\n"
    assert contents(path) == (migrations.VERSION, True)


def test_a_step_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a step breaks in its middle, none of it is there, and the version is the old one."""
    path = tmp_path / "store.db"
    make(path, 1, 1)
    monkeypatch.setattr(migrations, "STEPS", (STEPS[0], "CREATE TABLE runs (id TEXT); CREATE TABLE jobs (id TEXT)"))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        open_and_close(path)
    monkeypatch.undo()
    assert contents(path) == (1, False)
    open_and_close(path)
    assert contents(path) == (migrations.VERSION, True)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """A store of a later version is refused with both versions and the way out, and not a byte of it changes."""
    path = tmp_path / "store.db"
    make(path, 99, len(STEPS))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"version 99.* up to {migrations.VERSION}: upgrade asgipipe") as caught:
        open_and_close(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_of_another_program_is_refused(tmp_path: Path, journal: str) -> None:
    """A database with tables of somebody else's is refused, and not a byte of it changes."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE theirs (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        open_and_close(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a letter to a friend\n" * 100, b"a note", bytes(600), bytes(4096)])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is refused, and not a byte of it changes."""
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="no SQLite database"):
        open_and_close(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_whose_process_was_killed_is_opened(tmp_path: Path) -> None:
    """A log that a killed process left behind is read back, although the file is looked at for reading first."""
    path = tmp_path / "store.db"
    kill = OPEN.replace("    await database.close()\n", "    import os; os.kill(os.getpid(), 9)\n")
    with process(kill, path) as killed:
        killed.communicate("\n")
    assert path.with_name("store.db-wal").stat().st_size > 0
    open_and_close(path)
    assert contents(path) == (migrations.VERSION, True)


def test_names_that_a_url_would_change(tmp_path: Path) -> None:
    """Characters that mean something in a URL, or are not ASCII, are part of the name."""
    path = tmp_path / "ä ?mode=memory#x%20&.db"
    open_and_close(path)
    assert path.is_file()


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose SQLite lacks what the store needs is told so before anything is made."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"needs 3\.35"):
        open_and_close(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []
