"""asgipipe: a sync pipeline that promises never to wait and so needs no thread, all default middleware and a key."""

from asgipipe import asgi
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_nonblocking

app = asgi(weather_nonblocking, {"auth_key": workload.AUTH_KEY})
