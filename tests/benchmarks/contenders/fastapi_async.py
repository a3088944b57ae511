"""FastAPI as its documentation teaches it, with an async endpoint."""

from fastapi import FastAPI

from tests.benchmarks.envelope import InvokeRequest, InvokeResponse, invoke

app = FastAPI()


@app.post("/invoke", response_model=InvokeResponse)
async def endpoint(request: InvokeRequest) -> InvokeResponse:
    return invoke(request)
