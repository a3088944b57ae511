"""A Starlette application with the pipeline in it: mounted, and as native routes."""

from starlette.applications import Starlette

from asgipipe.runners.starlette import mount, router
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

SETTINGS = {"auth_key": workload.AUTH_KEY}

mounted = Starlette()
mount(mounted, "/weather", weather_async, SETTINGS)

included = Starlette()
included.router.routes.append(router(weather_async, SETTINGS))
