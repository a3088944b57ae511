"""A browser and servers that the tests here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.chromium import Chromium, chromium
from tests.servers.command import serving

SERVED = Path(__file__).parent / "served"


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as running:
        yield running


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a server of orders, which records its runs."""
    with serving(
        SERVED / "shop.py:order", "--set", "capture.mode=REALTIME", folder=tmp_path_factory.mktemp("shop")
    ) as running:
        yield running.origin
