"""PostgreSQL as a store: what the conformance suite asks of every database, and what only a server can do to one."""

import pytest

from asgipipe.testing.databases import Connect, DatabaseConformance

pytest.importorskip("psycopg", reason="the postgres extra is not installed")

from asgipipe.stores.postgresql import PostgreSQLDatabase


class TestPostgreSQL(DatabaseConformance):
    @pytest.fixture
    def connect(self, postgresql_url: str) -> Connect:
        return lambda: PostgreSQLDatabase(postgresql_url)
