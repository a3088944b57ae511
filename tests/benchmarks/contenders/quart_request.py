"""asgipipe's Quart runner with a handler that takes Quart's own request."""

from pydantic import ValidationError
from quart import Request, Response

from tests.benchmarks.comfort import Conditions, assess_async
from tests.benchmarks.pipelines import weather_nonblocking


async def comfort(request: Request) -> Response:
    try:
        conditions = Conditions.model_validate_json(await request.get_data())
    except ValidationError as error:
        return Response(error.json(include_input=False), 422, mimetype="application/json")
    return Response((await assess_async(conditions)).model_dump_json(), mimetype="application/json")


weather = weather_nonblocking.with_options(
    settings={"custom_endpoints": [{"path": "/comfort", "method": "POST", "handler": comfort}]}
)
