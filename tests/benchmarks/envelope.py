"""The request and the answer as pydantic models, for the contenders written by hand.

The models refuse what asgipipe refuses (unknown members, lax types), so that nobody is faster by checking less.
"""

import time
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from tests.benchmarks import workload

DEPLOYMENT_ID: Final = str(uuid4())
SNAPSHOT_ID: Final = str(uuid4())


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    city: str
    temperature: float = workload.DEFAULT_TEMPERATURE
    humidity: float = workload.DEFAULT_HUMIDITY


class InvokeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parameters: Parameters
    run_name: str | None = None
    timeout: float | None = Field(default=None, gt=0)


class Outputs(BaseModel):
    weather_analysis: workload.Analysis


class Metadata(BaseModel):
    deployment_id: str
    deployment_name: str
    snapshot_id: str
    snapshot_name: str | None
    pipeline_name: str
    run_id: str
    run_name: str
    parameters_used: Parameters


class InvokeResponse(BaseModel):
    success: bool
    outputs: Outputs | None
    execution_time: float
    metadata: Metadata
    error: str | None


def invoke(request: InvokeRequest) -> InvokeResponse:
    """Do the work in place and wrap it in the envelope of `POST /invoke`."""
    started = time.perf_counter()
    parameters = request.parameters
    analysis = workload.analyse(parameters.city, parameters.temperature, parameters.humidity)
    return InvokeResponse(
        success=True,
        outputs=Outputs(weather_analysis=analysis),
        execution_time=time.perf_counter() - started,
        metadata=Metadata(
            deployment_id=DEPLOYMENT_ID,
            deployment_name=workload.PIPELINE_NAME,
            snapshot_id=SNAPSHOT_ID,
            snapshot_name=None,
            pipeline_name=workload.PIPELINE_NAME,
            run_id=str(uuid4()),
            run_name=request.run_name or f"{workload.PIPELINE_NAME}-{datetime.now(UTC).isoformat()}",
            parameters_used=parameters,
        ),
        error=None,
    )
