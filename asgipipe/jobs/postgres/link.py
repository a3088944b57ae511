"""The connection over which PgQueuer works, on the event loop, and what PgQueuer knows of it."""

import asyncio
from datetime import UTC, datetime
from typing import Self, TypeVar

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.models import TableChangedEvent
from pgqueuer.ports.driver import NotifyCallback
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

from asgipipe.jobs.postgres.deliveries import SETTINGS
from asgipipe.stores.postgresql import Limits

RV = TypeVar("RV")

# What is lost in a crash of the server is that a row was picked, or is settled: it is delivered once more.
_SESSION = """
SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),
       set_config('synchronous_commit', 'off', false)
"""


class Link(psycopg.AsyncConnection[TupleRow]):
    """A connection that breaks when an answer takes longer than `patience` seconds, or nobody waits for it any more.

    psycopg waits for as long as it takes, and when it is cancelled, up to ten seconds for the server to notice.
    """

    patience: float = 5.0

    @classmethod
    async def to(cls, url: str, limits: Limits) -> Self:
        """Open a connection; raises psycopg's errors."""
        link = await cls.connect(
            url,
            autocommit=True,
            connect_timeout=limits.connecting,
            client_encoding="utf8",
            fallback_application_name="asgipipe",
        )
        try:
            link.patience = limits.silence
            await link.execute(_SESSION, [f"{limits.statement:g}s", f"{limits.lock:g}s"])
        except BaseException:
            await link.close()
            raise
        return link

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            async with asyncio.timeout(self.patience if timeout is None else timeout):
                return await wait_async(gen, self.pgconn.socket, interval=interval)
        except TimeoutError:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server has not answered for {self.patience:g} s") from None
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


class Driver(PsycopgDriver):
    """Tells PgQueuer of changes that others have heard of, instead of listening by itself.

    While psycopg listens on a connection it holds its lock: PgQueuer's statements would wait for up to a second. What
    comes in before PgQueuer has looked is one change, however much it is. `lost` is set, and `error` says why, once a
    statement has failed.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.lost = asyncio.Event()
        self.error: psycopg.Error | None = None
        self._callback: NotifyCallback | None = None
        self._told = False

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        try:
            return await super().fetch(query, *args)
        except psycopg.Error as error:
            self._lose(error)
            raise

    async def execute(self, query: str, *args: object) -> str:
        try:
            return await super().execute(query, *args)
        except psycopg.Error as error:
            self._lose(error)
            raise

    async def notify(self, channel: str, payload: str) -> None:
        """Answer PgQueuer's question whether it hears anything: when the server answers, it does."""
        await self.execute("SELECT 1")
        if self._callback is not None:
            self._callback(payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._callback = callback

    def changed(self) -> None:
        """Have PgQueuer look, unless it is about to."""
        if self._callback is None or self._told:
            return
        self._told = True
        event = TableChangedEvent(
            channel=SETTINGS.channel,
            sent_at=datetime.now(UTC),
            type="table_changed_event",
            operation="insert",
            table=SETTINGS.queue_table,
        )
        self._callback(event.model_dump_json())

    def looking(self) -> None:
        """Note that PgQueuer looks: what comes from now on is another change."""
        self._told = False

    def _lose(self, error: psycopg.Error) -> None:
        self.error = self.error or error
        self.lost.set()
