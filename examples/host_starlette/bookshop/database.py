"""Members, their sessions, and the reviews they write, in one SQLite file."""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

SCHEMA = """
create table if not exists members (name text primary key, salt blob not null, password blob not null);
create table if not exists sessions (token text primary key, member text not null references members);
create table if not exists reviews (
    id integer primary key, book text not null, member text not null references members, text text not null
);
create index if not exists reviews_by_book on reviews (book);
"""


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, which is rolled back when the block raises."""
    with closing(sqlite3.connect(os.environ.get("BOOKSHOP_DATABASE", "bookshop.sqlite3"))) as connection, connection:
        yield connection


def create() -> None:
    with connected() as connection:
        connection.executescript(SCHEMA)


def add_member(name: str, password: str) -> None:
    """Raises sqlite3.IntegrityError when the name is taken."""
    salt = secrets.token_bytes(16)
    with connected() as connection:
        connection.execute("insert into members values (?, ?, ?)", (name, salt, _hashed(password, salt)))


def log_in(name: str, password: str) -> str | None:
    """Return the token of a new session, None when name or password are wrong."""
    with connected() as connection:
        row = connection.execute("select salt, password from members where name = ?", (name,)).fetchone()
        # An unknown name takes as long as a wrong password.
        salt, expected = row or (b"", b"")
        if not hmac.compare_digest(_hashed(password, salt), expected):
            return None
        token = secrets.token_urlsafe(32)
        connection.execute("insert into sessions values (?, ?)", (_fingerprint(token), name))
        return token


def log_out(token: str) -> None:
    with connected() as connection:
        connection.execute("delete from sessions where token = ?", (_fingerprint(token),))


def member_of(token: str) -> str | None:
    with connected() as connection:
        row = connection.execute("select member from sessions where token = ?", (_fingerprint(token),)).fetchone()
    return row[0] if row else None


def add_review(book: str, member: str, text: str) -> None:
    with connected() as connection:
        connection.execute("insert into reviews (book, member, text) values (?, ?, ?)", (book, member, text))


def reviews_of(book: str) -> list[str]:
    with connected() as connection:
        return [text for (text,) in connection.execute("select text from reviews where book = ? order by id", (book,))]


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _fingerprint(token: str) -> str:
    """Return what is kept of a token: whoever reads the file cannot use it."""
    return hashlib.sha256(token.encode()).hexdigest()
