"""The tables in the schema that the search path leads to first, and the row that says which version they have."""

from collections.abc import Iterable, Sequence

from psycopg import errors

from asgipipe.errors import StoreError
from asgipipe.stores import migrations
from asgipipe.stores.database import Row, Transaction, Value
from asgipipe.stores.postgresql.dialect import translated
from asgipipe.stores.postgresql.link import Link
from asgipipe.stores.postgresql.server import Server
from asgipipe.stores.schema import POSTGRESQL

# Whoever holds it, in the number's own space, changes the tables of a schema.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('asgipipe'), current_schema()::regnamespace::oid::int4)"
_NO_SCHEMA = "name one that is there: postgresql://...?options=-csearch_path%3Dasgipipe"


def prepare(link: Link, server: Server) -> None:
    """Bring the tables up to date; raises StoreError when they cannot be, and psycopg's errors."""
    row = link.execute("SELECT current_setting('server_encoding'), current_schema()").fetchone()
    assert row is not None
    encoding, schema = row
    if encoding != "UTF8":
        raise StoreError(f"the store {server.place} is encoded in {encoding}: make a database with ENCODING 'UTF8'")
    if schema is None:
        raise StoreError(f"the search path of the store {server.place} leads to no schema: {_NO_SCHEMA}")
    if _version(link, server.place) != migrations.VERSION:
        _upgrade(link, server)


def channel(link: Link) -> str:
    """Return the name under which changes of these tables are told: another schema of the database has another."""
    row = link.execute("SELECT 'asgipipe_' || current_schema()::regnamespace::oid").fetchone()
    assert row is not None
    return str(row[0])


def _version(link: Link, place: str) -> int:
    if link.execute("SELECT to_regclass(quote_ident(current_schema()) || '.asgipipe_version')").fetchone() == (None,):
        return 0
    row = link.execute("SELECT version FROM asgipipe_version").fetchone()
    version = int(row[0]) if row else 0
    migrations.check(version, place)
    return version


def _upgrade(link: Link, server: Server) -> None:
    limit = server.limits.migration
    link.patience = limit
    try:
        with link.transaction():
            link.execute(f"SET LOCAL statement_timeout = '{limit:g}s'; SET LOCAL lock_timeout = '{limit:g}s'")
            link.execute(_LOCK)
            link.execute("CREATE TABLE IF NOT EXISTS asgipipe_version (version BIGINT NOT NULL)")
            migrations.upgrade(_Statements(link), _version(link, server.place), POSTGRESQL)
            link.execute("DELETE FROM asgipipe_version")
            link.execute("INSERT INTO asgipipe_version VALUES (%s)", (migrations.VERSION,))
    except errors.DuplicateTable as error:
        raise StoreError(
            f"the store {server.place} holds tables of somebody else's ({server.described(error)}): {_NO_SCHEMA}"
        ) from None
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise StoreError(f"the store {server.place} lets no tables be made: {server.described(error)}") from None
    finally:
        link.patience = server.limits.silence


class _Statements(Transaction):
    def __init__(self, link: Link) -> None:
        self._link = link

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        return self._link.execute(translated(sql), parameters).fetchall()

    def change(self, sql: str, *parameters: Value) -> int:
        return self._link.execute(translated(sql), parameters).rowcount

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        self._link.cursor().executemany(translated(sql), rows)
