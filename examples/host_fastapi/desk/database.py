"""Agents, their sessions, and the tickets they work on, in one SQLite file."""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

SCHEMA = """
create table if not exists agents (name text primary key, salt blob not null, password blob not null);
create table if not exists sessions (token text primary key, agent text not null references agents);
create table if not exists tickets (id integer primary key, customer text not null, text text not null);
"""


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, which is rolled back when the block raises."""
    with closing(sqlite3.connect(os.environ.get("DESK_DATABASE", "desk.sqlite3"))) as connection, connection:
        yield connection


def create() -> None:
    with connected() as connection:
        connection.executescript(SCHEMA)


def add_agent(name: str, password: str) -> None:
    """Raises sqlite3.IntegrityError when the name is taken."""
    salt = secrets.token_bytes(16)
    with connected() as connection:
        connection.execute("insert into agents values (?, ?, ?)", (name, salt, _hashed(password, salt)))


def log_in(name: str, password: str) -> str | None:
    """Return the token of a new session, None when name or password are wrong."""
    with connected() as connection:
        row = connection.execute("select salt, password from agents where name = ?", (name,)).fetchone()
        # An unknown name takes as long as a wrong password.
        salt, expected = row or (b"", b"")
        if not hmac.compare_digest(_hashed(password, salt), expected):
            return None
        token = secrets.token_urlsafe(32)
        connection.execute("insert into sessions values (?, ?)", (_fingerprint(token), name))
        return token


def agent_of(token: str) -> str | None:
    with connected() as connection:
        row = connection.execute("select agent from sessions where token = ?", (_fingerprint(token),)).fetchone()
    return row[0] if row else None


def add_ticket(customer: str, text: str) -> int:
    with connected() as connection:
        number = connection.execute("insert into tickets (customer, text) values (?, ?)", (customer, text)).lastrowid
    assert number is not None
    return number


def text_of(ticket: int) -> str | None:
    with connected() as connection:
        row = connection.execute("select text from tickets where id = ?", (ticket,)).fetchone()
    return row[0] if row else None


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _fingerprint(token: str) -> str:
    """Return what is kept of a token: whoever reads the file cannot use it."""
    return hashlib.sha256(token.encode()).hexdigest()
