"""The store in one SQLite file."""

from asgipipe.stores.sqlite.database import SQLiteDatabase

__all__ = ["SQLiteDatabase"]
