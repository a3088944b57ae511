"""asgipipe: sync steps, which run in the deployment's threads, all default middleware and a key."""

from asgipipe import asgi
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_sync

app = asgi(weather_sync, {"auth_key": workload.AUTH_KEY})
