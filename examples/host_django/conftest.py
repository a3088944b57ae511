"""Django, set up before the tests are imported, and a database for each of them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import setup_test_environment, teardown_test_environment

os.environ["DJANGO_SETTINGS_MODULE"] = "office.settings"
django.setup()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database with nothing but the tables."""
    setup_test_environment()
    file = tmp_path_factory.mktemp("office") / "empty.sqlite3"
    connections["default"].settings_dict["NAME"] = file
    call_command("migrate", verbosity=0)
    yield file
    teardown_test_environment()


@pytest.fixture(autouse=True)
def _database(empty: Path, tmp_path: Path) -> Iterator[None]:
    """In a file, not in memory: the pipeline reads it in threads with connections of their own."""
    connections.close_all()
    connections["default"].settings_dict["NAME"] = shutil.copy(empty, tmp_path)
    yield
    connections.close_all()
