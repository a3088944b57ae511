"""Quart by hand: async views, the raw body, the same models; sync work goes through Quart's own threads."""

from pydantic import BaseModel, ValidationError
from quart import Quart, Response, request
from quart.utils import run_sync

from tests.benchmarks.comfort import Conditions, assess, assess_async
from tests.benchmarks.envelope import InvokeRequest, invoke

app = Quart(__name__)


@app.post("/comfort")
async def comfort() -> Response:
    try:
        conditions = Conditions.model_validate_json(await request.get_data())
    except ValidationError as error:
        return refusal(error)
    return answer(await assess_async(conditions))


@app.post("/comfort-sync")
async def comfort_sync() -> Response:
    try:
        conditions = Conditions.model_validate_json(await request.get_data())
    except ValidationError as error:
        return refusal(error)
    return answer(await run_sync(assess)(conditions))


@app.post("/invoke")
async def run() -> Response:
    try:
        body = InvokeRequest.model_validate_json(await request.get_data())
    except ValidationError as error:
        return refusal(error)
    return answer(invoke(body))


def answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), mimetype="application/json")


def refusal(error: ValidationError) -> Response:
    return Response(error.json(include_input=False), 422, mimetype="application/json")
