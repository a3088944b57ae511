"""asgipipe's Django runner with a handler that takes Django's own request."""

from django.http import HttpRequest, HttpResponse
from pydantic import ValidationError

from tests.benchmarks.comfort import Conditions, assess_async
from tests.benchmarks.pipelines import weather_nonblocking


async def comfort(request: HttpRequest) -> HttpResponse:
    try:
        conditions = Conditions.model_validate_json(request.body)
    except ValidationError as error:
        return HttpResponse(error.json(include_input=False), status=422, content_type="application/json")
    return HttpResponse((await assess_async(conditions)).model_dump_json(), content_type="application/json")


weather = weather_nonblocking.with_options(
    settings={"custom_endpoints": [{"path": "/comfort", "method": "POST", "handler": comfort}]}
)
