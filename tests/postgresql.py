"""A PostgreSQL server of the tests' own, started from the binaries that are installed.

Debian keeps them beside PATH, in a folder per version; its package `postgresql` is enough, no cluster has to be made.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

_SETTINGS = {
    "listen_addresses": "",  # a socket in a folder of its own is in nobody's way
    "max_connections": "200",
    "shared_buffers": "16MB",
    "logging_collector": "off",
    "autovacuum": "off",
}
_PATIENCE = 30


def binaries() -> Path | None:
    """Return the folder of the newest `initdb` and `postgres` that are installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if (initdb := shutil.which("initdb")) is not None:
        folders.insert(0, Path(initdb).resolve().parent)
    if (config := shutil.which("pg_config")) is not None:
        found = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        folders.append(Path(found.stdout.strip()))
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def user() -> str | None:
    """Return as whom the server has to run: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    known = subprocess.run(["getent", "passwd", "postgres"], capture_output=True).returncode == 0
    return "postgres" if known else "nobody"


class PostgreSQLServer:
    """A server on a socket in `folder`, which ends with these tests, however they end.

    Nobody needs a password but the role `guarded`, which is there once a test has made it.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._programs = programs
        self._user = user()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(folder, self._user)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        subprocess.run(self._command("initdb", "-D", self._data, *options), check=True, capture_output=True, cwd=folder)
        access = self._data / "pg_hba.conf"
        access.write_text(f"local all guarded scram-sha-256\n{access.read_text()}")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Return the URL of a new database, which is dropped at the end."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Do a statement in a session of its own, and return what it gives."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def start(self) -> None:
        """Start it, and wait until it answers; it ends with the thread that starts it."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        options = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in settings.items())
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", self._data, *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends its sessions first, SIGQUIT is a crash."""
        assert self._process is not None
        self.thaw()
        self._process.send_signal(how)
        self._process.wait(_PATIENCE)

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._process.pid)
            for process in (postmaster, *postmaster.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _is_ready(self) -> bool:
        # What pg_ctl looks at: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self._process is not None
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _command(self, program: str, *arguments: str | Path) -> list[str | Path]:
        identity = [] if self._user is None else [f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"]
        return ["setpriv", *identity, "--pdeathsig=INT", "--", self._programs / program, *arguments]


@contextmanager
def running() -> Iterator[PostgreSQLServer]:
    """Run a server; the test is skipped where there is nothing to run it with."""
    programs = binaries()
    if programs is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    if find_spec("psycopg") is None:
        pytest.skip("the postgres extra is not installed")
    # The path of a socket has 107 bytes at most, so it is not below pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="asgipipe-postgresql-"))
    try:
        server = PostgreSQLServer(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)
