"""The conformance suite of job queues, over every queue and every store that it works with."""

from pathlib import Path

import pytest

from asgipipe.testing.queues import JobQueueConformance, Settings


class TestEmbeddedSQLite(JobQueueConformance):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return {"store_url": str(tmp_path / "store.db"), "job_queue": "embedded"}


class TestEmbeddedPostgreSQL(JobQueueConformance):
    @pytest.fixture
    def settings(self, postgresql_url: str) -> Settings:
        return {"store_url": postgresql_url, "job_queue": "embedded"}


class TestPostgres(JobQueueConformance):
    @pytest.fixture
    def settings(self, postgresql_url: str) -> Settings:
        pytest.importorskip("pgqueuer")
        return {"store_url": postgresql_url, "job_queue": "postgres", "job_queue_kwargs": {"lease": 0.5, "sweep": 0.5}}
