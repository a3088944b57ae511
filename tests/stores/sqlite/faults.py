"""A disk that fails when it is told to, and processes that get in the way."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 20.0


@dataclass
class Disk:
    """`pages` is how large the file may become; `faults` says which statement fails, with which of SQLite's codes."""

    pages: int | None = None
    faults: Mapping[str, int] = field(default_factory=dict)
    late: bool = False
    """Whether what fails has been done nevertheless."""
    connections: int = 0

    def factory(self) -> type[sqlite3.Connection]:
        disk = self

        class Connection(sqlite3.Connection):
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # as sqlite3.connect calls it
                disk.connections += 1

            def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:  # type: ignore[override]
                if sql == "BEGIN IMMEDIATE":
                    super().execute(f"PRAGMA max_page_count = {disk.pages or 2**30}").fetchall()
                code = disk.faults.get(sql)
                if code is not None and not disk.late:
                    raise failure(code)
                cursor = super().execute(sql, parameters)  # type: ignore[arg-type]  # handed on as they are
                if code is not None:
                    raise failure(code)
                return cursor

        return Connection


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@contextlib.contextmanager
def process(
    source: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program, with pipes; it is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("released", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Have another process hold the write lock; call what is yielded to have it released."""
    with process(HOLD_THE_LOCK, path) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def release() -> None:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "released\n"

        yield release


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
