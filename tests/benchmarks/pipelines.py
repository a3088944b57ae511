"""The work as asgipipe pipelines: async steps, sync steps, sync steps that never wait; one has custom endpoints."""

from typing import Annotated, Final

from asgipipe import pipeline, step
from tests.benchmarks import workload
from tests.benchmarks.comfort import assess, assess_async


@step(name="normalise")
async def normalise_async(city: str, temperature: float, humidity: float) -> workload.Reading:
    return workload.normalise(city, temperature, humidity)


@step(name="score")
async def score_async(reading: workload.Reading) -> float:
    return workload.score(reading)


@step(name="describe")
async def describe_async(reading: workload.Reading, comfort: float) -> workload.Analysis:
    return workload.describe(reading, comfort)


@pipeline(name=workload.PIPELINE_NAME)
async def weather_async(
    city: str,
    temperature: float = workload.DEFAULT_TEMPERATURE,
    humidity: float = workload.DEFAULT_HUMIDITY,
) -> Annotated[workload.Analysis, workload.OUTPUT_NAME]:
    reading = await normalise_async(city, temperature, humidity)
    return await describe_async(reading, await score_async(reading))


normalise = step(workload.normalise)
score = step(workload.score)
describe = step(workload.describe)


@pipeline(name=workload.PIPELINE_NAME)
def weather_sync(
    city: str,
    temperature: float = workload.DEFAULT_TEMPERATURE,
    humidity: float = workload.DEFAULT_HUMIDITY,
) -> Annotated[workload.Analysis, workload.OUTPUT_NAME]:
    reading = normalise(city, temperature, humidity)
    return describe(reading, score(reading))


weather_nonblocking = weather_sync.with_options(blocking=False)

WITH_ENDPOINTS: Final = {
    "custom_endpoints": [
        {"path": "/comfort", "method": "POST", "handler": assess_async},
        {"path": "/comfort-sync", "method": "POST", "handler": assess},
    ]
}
weather_with_endpoints = weather_nonblocking.with_options(settings=WITH_ENDPOINTS)
