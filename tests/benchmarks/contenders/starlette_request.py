"""asgipipe's Starlette runner with a handler that takes Starlette's own request."""

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tests.benchmarks.comfort import Conditions, assess_async
from tests.benchmarks.pipelines import weather_nonblocking

CONDITIONS = TypeAdapter(Conditions)


async def comfort(request: Request) -> Response:
    try:
        conditions = CONDITIONS.validate_json(await request.body())
    except ValidationError as error:
        return Response(error.json(include_input=False), 422, media_type="application/json")
    return Response((await assess_async(conditions)).model_dump_json(), media_type="application/json")


weather = weather_nonblocking.with_options(
    settings={"custom_endpoints": [{"path": "/comfort", "method": "POST", "handler": comfort}]}
)
