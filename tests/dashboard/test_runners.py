"""The default dashboard on the other runners."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.browser import needs_browser
from tests.dashboard.chromium import Chromium
from tests.dashboard.conftest import SERVED
from tests.dashboard.test_page import add_wine, opened
from tests.servers.command import serving

pytestmark = needs_browser


@pytest.mark.parametrize("flavor", ["fastapi", "django", "quart"])
def test_a_run_is_watched_on_each_runner(browser: Chromium, tmp_path: Path, flavor: str) -> None:
    """The page is the same: a streamed run is shown to its end, and the lists and plots are filled."""
    if find_spec(flavor) is None:
        pytest.skip(f"{flavor} is not installed")
    with (
        serving(
            SERVED / "shop.py:order", "--set", f"deployment_app_runner_flavor={flavor}", folder=tmp_path
        ) as running,
        opened(browser, running.origin) as page,
    ):
        add_wine(page)
        page.click("#start")
        page.until_says("#status", "completed")
        page.until_says("#result", "Riesling 2021 red, 1 in all")
        page.until_says("#jobs tbody tr", "completed")
        page.until_says("#metrics", "Runs in all: 1,")
