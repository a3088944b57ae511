"""Starlette by hand: a route, the raw body, the same models."""

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.benchmarks.envelope import InvokeRequest, invoke


async def endpoint(request: Request) -> Response:
    try:
        body = InvokeRequest.model_validate_json(await request.body())
    except ValidationError as error:
        return Response(error.json(include_input=False), 422, media_type="application/json")
    return Response(invoke(body).model_dump_json(), media_type="application/json")


app = Starlette(routes=[Route("/invoke", endpoint, methods=["POST"])])
