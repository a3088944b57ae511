"""The conformance suite over the databases that need nothing installed."""

from pathlib import Path

import pytest

from asgipipe.stores.registry import database
from asgipipe.stores.sqlite import SQLiteDatabase
from asgipipe.testing.databases import Connect, DatabaseConformance


class TestSQLite(DatabaseConformance):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: SQLiteDatabase(tmp_path / "store" / "store.db")


class TestMemory(DatabaseConformance):
    shared = False

    @pytest.fixture
    def connect(self) -> Connect:
        return lambda: database("memory:")
