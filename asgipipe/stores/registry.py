"""Finding the database that a setting names."""

from pathlib import Path

from asgipipe.errors import StoreError
from asgipipe.settings.stores import MEMORY, is_postgresql
from asgipipe.stores.database import Database
from asgipipe.stores.sqlite import SQLiteDatabase

DEFAULT = Path(".asgipipe", "store.db")
"""Below the working directory."""


def database(url: str | None) -> Database:
    """Return the database at a `store_url`, not opened; None is the one of the working directory.

    Raises StoreError when what it needs is not installed.
    """
    if url == MEMORY:
        return SQLiteDatabase(None)
    if url is not None and is_postgresql(url):
        return _postgresql(url)
    # Made absolute here, so that a program which changes its directory keeps its store.
    return SQLiteDatabase((Path(url).expanduser() if url is not None else DEFAULT).absolute())


def _postgresql(url: str) -> Database:
    try:
        from asgipipe.stores.postgresql import PostgreSQLDatabase
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise StoreError(
            f'a store in PostgreSQL needs its driver: pip install "asgipipe[postgres]" ({error})'
        ) from error
    return PostgreSQLDatabase(url)
