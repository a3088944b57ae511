"""A Starlette application with the pipeline in it: mounted, and as native routes."""

from starlette.applications import Starlette
from starlette.routing import Mount

from asgipipe.runners.starlette import mount, router
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

SETTINGS = {"auth_key": workload.AUTH_KEY}

mounted = Starlette()
mount(mounted, "/weather", weather_async, SETTINGS)

native = router(weather_async, SETTINGS)
included = Starlette(routes=[Mount("/weather", routes=native.routes)], lifespan=native.lifespan_context)
