"""asgipipe's FastAPI runner with a handler that takes FastAPI's own request, beside a model."""

from fastapi import Request

from tests.benchmarks.comfort import Comfort, Conditions, assess_async
from tests.benchmarks.pipelines import weather_nonblocking


async def comfort(request: Request, conditions: Conditions) -> Comfort:
    return await assess_async(conditions)


weather = weather_nonblocking.with_options(
    settings={"custom_endpoints": [{"path": "/comfort", "method": "POST", "handler": comfort}]}
)
