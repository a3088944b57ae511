"""FastAPI as its documentation teaches it, with a sync endpoint, which it runs in a thread."""

from fastapi import FastAPI

from tests.benchmarks.envelope import InvokeRequest, InvokeResponse, invoke

app = FastAPI()


@app.post("/invoke", response_model=InvokeResponse)
def endpoint(request: InvokeRequest) -> InvokeResponse:
    return invoke(request)
