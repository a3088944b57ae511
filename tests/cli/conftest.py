"""Folders with pipelines to deploy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project, project_in


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        yield project


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose deployment `weather` runs; tests that share it change nothing of it."""
    with project_in(tmp_path_factory.mktemp("weather")) as project:
        project.deploy("pipelines.py:weather", "--env=TOKEN=canary-token")
        yield project
