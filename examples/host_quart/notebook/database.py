"""Writers, and the notes they share, in one SQLite file."""

import hashlib
import hmac
import os
import secrets
import sqlite3
from contextlib import closing
from typing import Any

TABLES = (
    "create table if not exists writers (name text primary key, salt blob not null, password blob not null)",
    "create table if not exists notes (id integer primary key, writer text not null references writers, text text)",
)


def query(statement: str, *values: object) -> list[Any]:
    """Run one statement in a transaction of its own and return the rows."""
    with closing(sqlite3.connect(os.environ.get("NOTEBOOK_DATABASE", "notebook.sqlite3"))) as connection, connection:
        return connection.execute(statement, values).fetchall()


def create() -> None:
    for table in TABLES:
        query(table)


def add_writer(name: str, password: str) -> bool:
    """Return whether the name was free."""
    salt = secrets.token_bytes(16)
    added = "insert into writers values (?, ?, ?) on conflict do nothing returning name"
    return bool(query(added, name, salt, hashed(password, salt)))


def knows(name: str, password: str) -> bool:
    # An unknown name takes as long as a wrong password.
    [(salt, expected)] = query("select salt, password from writers where name = ?", name) or [(b"", b"")]
    return hmac.compare_digest(hashed(password, salt), expected)


def hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
