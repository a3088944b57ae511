"""The weather agent."""

from collections.abc import Callable
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]


def test_same_city_same_answer(load: Load) -> None:
    """The answer depends on the city alone, not on how its name is written."""
    agent = load("weather_agent/weather_agent.py").weather_agent
    assert agent("London") == agent("London")
    assert agent(" LONDON ").casefold() == agent("London").casefold()
    assert agent("London") != agent("Lima")


@pytest.mark.parametrize(
    ("degrees", "sky", "expected"),
    [
        (9, "clear", "Wear a coat."),
        (10, "clear", "Take a jacket."),
        (20, "windy", "Dress lightly."),
        (5, "rainy", "Wear a coat and bring an umbrella."),
    ],
)
def test_advice(load: Load, degrees: int, sky: str, expected: str) -> None:
    """Clothes go by the temperature, umbrellas by the sky."""
    assert load("weather_agent/weather_agent.py").advice(degrees, sky) == expected
