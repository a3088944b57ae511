"""The work that every contender does: three small steps of plain Python, a microsecond or so each."""

from typing import Final

from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

PIPELINE_NAME: Final = "weather"
OUTPUT_NAME: Final = "weather_analysis"
DEFAULT_TEMPERATURE: Final = 20.0
DEFAULT_HUMIDITY: Final = 0.5

# What the load generator sends. `humidity` is left out so that a default has to be filled in.
PARAMETERS: Final[dict[str, str | float]] = {"city": "  new   york ", "temperature": 23.46}
AUTH_KEY: Final = "benchmark-key-0123456789abcdef"

_WORDS: Final = ((0.9, "delightful"), (0.7, "pleasant"), (0.4, "bearable"), (float("-inf"), "harsh"))


class Reading(TypedDict):
    city: str
    celsius: float
    humidity: float


class Analysis(TypedDict):
    city: str
    comfort: float
    summary: str


def normalise(city: str, temperature: float, humidity: float) -> Reading:
    return {
        "city": " ".join(city.split()).title(),
        "celsius": round(temperature, 1),
        "humidity": min(max(humidity, 0.0), 1.0),
    }


def score(reading: Reading) -> float:
    """Return the comfort from 0 to 1; 21 °C at 45 % humidity is the best there is."""
    discomfort = abs(reading["celsius"] - 21.0) / 30.0 + abs(reading["humidity"] - 0.45) / 2.0
    return round(max(1.0 - discomfort, 0.0), 3)


def describe(reading: Reading, comfort: float) -> Analysis:
    word = next(word for bound, word in _WORDS if comfort >= bound)
    return {
        "city": reading["city"],
        "comfort": comfort,
        "summary": f"{reading['city']}: {word} at {reading['celsius']:.1f} degrees",
    }


def analyse(city: str, temperature: float, humidity: float) -> Analysis:
    """Do the whole work, as code without a pipeline does it."""
    reading = normalise(city, temperature, humidity)
    return describe(reading, score(reading))
