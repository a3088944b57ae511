from pathlib import Path

import pytest

from asgipipe.testing.limits import LIMITS, Limit, markdown
from asgipipe.testing.scenario import scenarios

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "frameworks.md"


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.flavor}-{min(limit.scenarios)}")
def test_limits_name_scenarios(limit: Limit) -> None:
    """Every row is about scenarios that there are, in forms that they are run for."""
    for name in limit.scenarios:
        assert scenarios()[name].forms & limit.forms, name


def test_the_documentation_has_the_table() -> None:
    """The table of the page is that of the suite, to the letter."""
    assert markdown() in PAGE.read_text()


def test_every_scenario_says_what_it_proves() -> None:
    """In one sentence."""
    for scenario in scenarios().values():
        assert scenario.sentence.endswith("."), scenario.name
        assert "\n\n" not in scenario.sentence, scenario.name
