"""Writers, their sessions, and their notes, in one SQLite file."""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

SCHEMA = """
create table if not exists writers (name text primary key, salt blob not null, password blob not null);
create table if not exists sessions (token text primary key, writer text not null references writers);
create table if not exists notes (id integer primary key, writer text not null references writers, text text not null);
"""


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, which is rolled back when the block raises."""
    with closing(sqlite3.connect(os.environ.get("NOTEBOOK_DATABASE", "notebook.sqlite3"))) as connection, connection:
        yield connection


def create() -> None:
    with connected() as connection:
        connection.executescript(SCHEMA)


def add_writer(name: str, password: str) -> None:
    """Raises sqlite3.IntegrityError when the name is taken."""
    salt = secrets.token_bytes(16)
    with connected() as connection:
        connection.execute("insert into writers values (?, ?, ?)", (name, salt, _hashed(password, salt)))


def log_in(name: str, password: str) -> str | None:
    """Return the token of a new session, None when name or password are wrong."""
    with connected() as connection:
        row = connection.execute("select salt, password from writers where name = ?", (name,)).fetchone()
        # An unknown name takes as long as a wrong password.
        salt, expected = row or (b"", b"")
        if not hmac.compare_digest(_hashed(password, salt), expected):
            return None
        token = secrets.token_urlsafe(32)
        connection.execute("insert into sessions values (?, ?)", (_fingerprint(token), name))
        return token


def writer_of(token: str) -> str | None:
    with connected() as connection:
        row = connection.execute("select writer from sessions where token = ?", (_fingerprint(token),)).fetchone()
    return row[0] if row else None


def add_note(writer: str, text: str) -> None:
    with connected() as connection:
        connection.execute("insert into notes (writer, text) values (?, ?)", (writer, text))


def notes() -> list[str]:
    with connected() as connection:
        return [text for (text,) in connection.execute("select text from notes order by id")]


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _fingerprint(token: str) -> str:
    """Return what is kept of a token: whoever reads the file cannot use it."""
    return hashlib.sha256(token.encode()).hexdigest()
