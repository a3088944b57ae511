"""A Quart application with the pipeline in it: mounted, and as native routes."""

from quart import Quart

from asgipipe_quart import blueprint, mount
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

SETTINGS = {"auth_key": workload.AUTH_KEY}

mounted = Quart(__name__)
mount(mounted, "/weather", weather_async, SETTINGS)

included = Quart(__name__)
included.register_blueprint(blueprint(weather_async, SETTINGS), url_prefix="/weather")
