"""asgipipe: async steps in an async pipeline, all default middleware and a key."""

from asgipipe import asgi
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

app = asgi(weather_async, {"auth_key": workload.AUTH_KEY})
