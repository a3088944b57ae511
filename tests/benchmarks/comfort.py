"""The custom endpoint: a pydantic model in, a pydantic model out, the steps of the pipelines in between.

Hand-written endpoints and custom ones of asgipipe call these functions with these models.
"""

from pydantic import BaseModel

from tests.benchmarks import workload


class Conditions(BaseModel):
    city: str
    temperature: float = workload.DEFAULT_TEMPERATURE
    humidity: float = workload.DEFAULT_HUMIDITY


class Comfort(BaseModel):
    city: str
    comfort: float
    summary: str


def assess(conditions: Conditions) -> Comfort:
    return Comfort(**workload.analyse(conditions.city, conditions.temperature, conditions.humidity))


async def assess_async(conditions: Conditions) -> Comfort:
    return assess(conditions)
