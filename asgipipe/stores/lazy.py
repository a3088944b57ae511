"""The store of a deployment, opened when it is first needed."""

import asyncio
from collections.abc import Callable

from asgipipe.stores.database import Database


class LazyDatabase:
    """One database for everything in a deployment that keeps something; used on the deployment's event loop.

    Whoever has something to write calls `open`; whoever only reads, `open_existing`. `make` gives the database when one
    of them is first called, so that a missing driver is reported where the store is wanted.
    """

    def __init__(self, make: Callable[[], Database]) -> None:
        self._make = make
        self._database: Database | None = None
        self._opening: asyncio.Task[None] | None = None
        self.opened = False

    @property
    def database(self) -> Database:
        """The database, open or not. Raises StoreError when what it needs is not installed."""
        if self._database is None:
            self._database = self._make()
        return self._database

    async def open(self) -> Database:
        """Return the open database; a failed attempt raises for all that waited for it, and the next call tries again.

        Raises StoreError and UnavailableError.
        """
        database = self.database
        if not self.opened:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.ensure_future(self._open(database))
            await asyncio.shield(self._opening)
        return database

    async def open_existing(self) -> Database | None:
        """Return the open database, or None where there is nothing to open."""
        return await self.open() if self.opened or self.database.exists() else None

    async def close(self) -> None:
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening])
        if self.opened and self._database is not None:
            self.opened = False
            await self._database.close()
        self._opening = None

    async def _open(self, database: Database) -> None:
        await database.open()
        self.opened = True
