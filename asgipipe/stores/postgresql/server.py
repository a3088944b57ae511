"""Where a database is, and how it is reached: nothing said about it names a password."""

import time
from collections import deque
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from asgipipe.errors import StoreError
from asgipipe.settings.keys import MASK
from asgipipe.settings.stores import shown
from asgipipe.stores.postgresql.limits import Limits
from asgipipe.stores.postgresql.link import Link, adapt

_PAUSE = 0.2
"""Seconds between a connection that failed and the next one that is tried: the server may be busy starting."""

_SECRETS = ("password", "sslpassword")

# Durable means flushed, whatever the server, the database or the role are set to.
_SESSION = """
SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', %s, false),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false),
       (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())
"""
# A number may be another process's by now; with the time at which it started it is not.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start::text = %s"


class Server:
    """One database of one server; raises StoreError when its URL is wrong."""

    def __init__(self, url: str, limits: Limits) -> None:
        self.place = shown(url) or url
        self.limits = limits
        self.backends: set[int] = set()
        """The server's processes for connections of ours."""
        self.url = url
        self._not_before = 0.0
        self._secrets = _secrets(url)
        self._lost: deque[tuple[int, str]] = deque(maxlen=16)
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise StoreError(f"store_url: {self.place}: {self.described(error)}") from None
        self._secrets |= {str(given[name]) for name in _SECRETS if given.get(name)}

    def described(self, error: Exception) -> str:
        """Return what an error says, in one line and without passwords."""
        said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        text = " ".join((said or str(error)).split())
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def connect(self) -> Link:
        """Open a connection, in autocommit mode; raises psycopg's OperationalError."""
        time.sleep(max(self._not_before - time.monotonic(), 0))
        try:
            link = Link.connect(
                self.url,
                autocommit=True,
                connect_timeout=self.limits.connecting,
                client_encoding="utf8",
                fallback_application_name="asgipipe",
            )
        except psycopg.Error as error:
            self._not_before = time.monotonic() + _PAUSE
            raise psycopg.OperationalError(self.described(error)) from None
        try:
            self._prepare(link)
        except BaseException:
            link.close()
            raise
        self.backends.add(link.backend)
        return link

    def release(self, link: Link) -> None:
        """Close a connection; the backend of one that fell silent is ended as soon as the server can be reached.

        Frozen in a transaction, it holds locks, and thawed, it might do what was done again meanwhile.
        """
        self.backends.discard(link.backend)
        if link.silent:
            self._lost.append((link.backend, link.started))
        link.close()

    def _prepare(self, link: Link) -> None:
        limits = self.limits
        link.patience = limits.silence
        link.backend = link.info.backend_pid
        adapt(link)
        times = [f"{seconds:g}s" for seconds in (limits.statement, limits.lock, limits.idle)]
        row = link.execute(_SESSION, times).fetchone()
        assert row is not None
        link.started = row[-1]
        while self._lost:
            lost = self._lost.popleft()
            try:
                link.execute(_END, lost)
            except psycopg.Error:
                self._lost.append(lost)
                raise


def _secrets(url: str) -> set[str]:
    """Return the password as it stands in the URL, and decoded; libpq quotes what it cannot read."""
    password = urlsplit(url).netloc.rpartition("@")[0].partition(":")[2]
    return {text for text in (password, unquote(password)) if text}
