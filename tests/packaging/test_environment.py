"""What `scripts/test-with` made is what it was asked for: without this, a skip could pass for a success."""

import os
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from packaging.version import Version

from asgipipe.runners.registry import load_app_runner
from tests.packaging.floors import FRAMEWORKS, supported

EXTRA = os.environ.get("TESTED_EXTRA", "")
LOWEST = os.environ.get("TESTED_VERSIONS") == "lowest"
OPTIONAL = {*FRAMEWORKS, "gunicorn", "drf_spectacular_sidecar", "psycopg", "pgqueuer", "docker", "lightkube"}
INSTALLED = {
    "core": set(),
    "docs": {"drf_spectacular_sidecar", "django"},  # the package with the files declares Django
    "postgres": {"psycopg", "pgqueuer"},
    "kubernetes": {"lightkube"},
    "all": OPTIONAL,
}

pytestmark = pytest.mark.skipif(not EXTRA, reason="this environment was not made by scripts/test-with")


def test_the_extra_brings_what_it_is_named_after_and_no_other() -> None:
    """Of everything optional, what the extra stands for is installed, and the test tools bring none of the rest."""
    assert {name for name in OPTIONAL if find_spec(name)} == INSTALLED.get(EXTRA, {EXTRA})


def test_the_app_runners_load() -> None:
    """The runner of each framework that is here is found by its name."""
    found = [name for name in ("starlette", *FRAMEWORKS) if find_spec(name)]
    assert [load_app_runner(name).__name__.removesuffix("AppRunner").lower() for name in found] == found


@pytest.mark.skipif(not LOWEST, reason="these are not the lowest versions")
def test_the_lowest_versions_are_installed() -> None:
    """Each lower bound of pyproject.toml is the version that is tested here, neither a higher nor a lower one."""
    lowest = {name: bound for extra in supported().values() for name, bound in extra.items()}
    installed = {name: version(name) for name in lowest}
    assert {name: Version(bound) for name, bound in lowest.items()} == {
        name: Version(number) for name, number in installed.items()
    }
