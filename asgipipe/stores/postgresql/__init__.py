"""The store in a PostgreSQL database; importing it needs psycopg."""

from asgipipe.stores.postgresql.database import PostgreSQLDatabase
from asgipipe.stores.postgresql.limits import Limits

__all__ = ["Limits", "PostgreSQLDatabase"]
