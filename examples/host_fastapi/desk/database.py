"""Agents, their sessions, and the tickets they work on, in one SQLite file."""

import hashlib
import hmac
import os
import secrets
import sqlite3
from contextlib import closing
from typing import Any

TABLES = (
    "create table if not exists agents (name text primary key, salt blob not null, password blob not null)",
    "create table if not exists sessions (token text primary key, agent text not null references agents)",
    "create table if not exists tickets (id integer primary key, text text not null)",
)


def query(statement: str, *values: object) -> list[Any]:
    """Run one statement in a transaction of its own and return the rows."""
    with closing(sqlite3.connect(os.environ.get("DESK_DATABASE", "desk.sqlite3"))) as connection, connection:
        return connection.execute(statement, values).fetchall()


def create() -> None:
    for table in TABLES:
        query(table)


def add_agent(name: str, password: str) -> bool:
    """Return whether the name was free."""
    salt = secrets.token_bytes(16)
    added = "insert into agents values (?, ?, ?) on conflict do nothing returning name"
    return bool(query(added, name, salt, hashed(password, salt)))


def log_in(name: str, password: str) -> str | None:
    """Return the token of a new session, None when name or password are wrong."""
    # An unknown name takes as long as a wrong password.
    [(salt, expected)] = query("select salt, password from agents where name = ?", name) or [(b"", b"")]
    if not hmac.compare_digest(hashed(password, salt), expected):
        return None
    token = secrets.token_urlsafe(32)
    query("insert into sessions values (?, ?)", fingerprint(token), name)
    return token


def agent_of(token: str) -> str | None:
    for (agent,) in query("select agent from sessions where token = ?", fingerprint(token)):
        return str(agent)
    return None


def hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def fingerprint(token: str) -> str:
    """Return what is kept of a token: whoever reads the file cannot use it."""
    return hashlib.sha256(token.encode()).hexdigest()
