"""Django, set up before the tests are imported, and a database for each of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import setup_test_environment, teardown_test_environment

os.environ["DJANGO_SETTINGS_MODULE"] = "office.settings"
django.setup()


@pytest.fixture(autouse=True)
def _database(tmp_path: Path) -> Iterator[None]:
    """In a file, not in memory: the pipeline reads it in threads with connections of their own."""
    setup_test_environment()
    connections["default"].settings_dict["NAME"] = tmp_path / "office.sqlite3"
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()
    teardown_test_environment()
