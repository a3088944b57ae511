"""FastAPI as its documentation teaches it; sync endpoints run in threads."""

from fastapi import FastAPI

from tests.benchmarks.comfort import Comfort, Conditions, assess, assess_async
from tests.benchmarks.envelope import InvokeRequest, InvokeResponse, invoke

app = FastAPI()


@app.post("/comfort")
async def comfort(conditions: Conditions) -> Comfort:
    return await assess_async(conditions)


@app.post("/comfort-sync")
def comfort_sync(conditions: Conditions) -> Comfort:
    return assess(conditions)


@app.post("/invoke")
async def run(request: InvokeRequest) -> InvokeResponse:
    return invoke(request)
