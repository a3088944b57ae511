"""A FastAPI application with the pipeline in it: mounted, and as native routes."""

from fastapi import FastAPI

from asgipipe_fastapi import mount, router
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

SETTINGS = {"auth_key": workload.AUTH_KEY}

mounted = FastAPI()
mount(mounted, "/weather", weather_async, SETTINGS)

included = FastAPI()
included.include_router(router(weather_async, SETTINGS), prefix="/weather")
