"""The conformance suite of the store of jobs, over every database."""

from pathlib import Path

import pytest

from asgipipe.stores.registry import database
from asgipipe.stores.sqlite import SQLiteDatabase
from asgipipe.testing.jobstores import Connect, JobStoreConformance


class TestSQLite(JobStoreConformance):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: SQLiteDatabase(tmp_path / "store.db")


class TestMemory(JobStoreConformance):
    @pytest.fixture
    def connect(self) -> Connect:
        return lambda: database("memory:")


class TestPostgreSQL(JobStoreConformance):
    @pytest.fixture
    def connect(self, postgresql_url: str) -> Connect:
        return lambda: database(postgresql_url)
