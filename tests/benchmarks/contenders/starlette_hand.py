"""Starlette by hand: routes, the raw body, the same models."""

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.benchmarks.comfort import Conditions, assess, assess_async
from tests.benchmarks.envelope import InvokeRequest, invoke

INVOKE_REQUEST = TypeAdapter(InvokeRequest)
CONDITIONS = TypeAdapter(Conditions)


async def comfort(request: Request) -> Response:
    try:
        conditions = CONDITIONS.validate_json(await request.body())
    except ValidationError as error:
        return refusal(error)
    return answer(await assess_async(conditions))


async def comfort_sync(request: Request) -> Response:
    try:
        conditions = CONDITIONS.validate_json(await request.body())
    except ValidationError as error:
        return refusal(error)
    return answer(await run_in_threadpool(assess, conditions))


async def run(request: Request) -> Response:
    try:
        body = INVOKE_REQUEST.validate_json(await request.body())
    except ValidationError as error:
        return refusal(error)
    return answer(invoke(body))


def answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def refusal(error: ValidationError) -> Response:
    return Response(error.json(include_input=False), 422, media_type="application/json")


app = Starlette(
    routes=[
        Route("/comfort", comfort, methods=["POST"]),
        Route("/comfort-sync", comfort_sync, methods=["POST"]),
        Route("/invoke", run, methods=["POST"]),
    ]
)
