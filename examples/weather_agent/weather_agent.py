"""A weather agent: one step, no network, and the same answer for the same city every time."""

from typing import Annotated
from zlib import crc32

from pydantic import Field

from asgipipe import pipeline, step

City = Annotated[str, Field(min_length=1, max_length=100, description="The name of a city.")]

SKIES = ("clear", "cloudy", "rainy", "windy")


@step
def analyze_weather(city: str) -> Annotated[str, "weather_analysis"]:
    """Say what the weather in a city is like and what it calls for.

    The observation is made up from the letters of the city's name; a real agent would ask a weather service here.
    """
    observation = crc32(city.strip().casefold().encode())
    degrees = observation % 36 - 4
    sky = SKIES[observation // 36 % len(SKIES)]
    return f"{city.strip()}: {sky}, {degrees} °C. {advice(degrees, sky)}"


def advice(degrees: int, sky: str) -> str:
    clothes = "Wear a coat" if degrees < 10 else "Take a jacket" if degrees < 20 else "Dress lightly"
    return f"{clothes} and bring an umbrella." if sky == "rainy" else f"{clothes}."


@pipeline
def weather_agent(city: City) -> str:
    """Analyse the weather in a city."""
    return analyze_weather(city)
