"""What a deployment answers, as the HTTP contract has it. Members that a later version adds are left out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr
from typing_extensions import TypeVar

from asgipipe.client.errors import InvocationError
from asgipipe.jobs.records import TERMINAL_EVENTS
from asgipipe.jobs.states import JobState

JSONObject = Mapping[str, Any]  # what is in it, only the pipeline knows

T = TypeVar("T", default=JSONObject)

_TERMINAL = frozenset(TERMINAL_EVENTS.values())


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


# Runs


class RunMetadata(_Model):
    deployment_id: str
    deployment_name: str
    snapshot_id: str | None = None
    snapshot_name: str | None = None
    pipeline_name: str
    run_id: str
    run_name: str
    parameters_used: dict[str, Any]


class Invocation(_Model, Generic[T]):
    """What came of a run: the envelope of the HTTP contract.

    `outputs` are by name, None where the run did not complete; `execution_time` is in seconds.
    """

    success: bool
    outputs: dict[str, Any] | None
    execution_time: float
    metadata: RunMetadata
    error: str | None
    _replayed: bool = PrivateAttr(default=False)
    _value: tuple[object] | None = PrivateAttr(default=None)  # a tuple, for None may be a value

    @property
    def value(self) -> T:
        """What the pipeline returned: of the client's type if it was given one, else the outputs by name.

        Raises InvocationError when the run did not complete.
        """
        if not self.success:
            raise InvocationError(self.metadata.deployment_name, self)
        return cast("T", self.outputs if self._value is None else self._value[0])

    @property
    def replayed(self) -> bool:
        """True when this is the answer to an earlier request with the same Idempotency-Key."""
        return self._replayed

    @property
    def run_id(self) -> str:
        return self.metadata.run_id


# Jobs


class Progress(_Model):
    """How far a run says it is; `fraction` is from 0 to 1."""

    fraction: float | None = None
    message: str | None = None
    step_name: str | None = None


class Job(_Model, Generic[T]):
    """A job as it was when it was asked for; `execution_time` is in seconds, `attempt` 0 before the first."""

    job_id: str
    run_id: str
    run_name: str
    pipeline_name: str
    status: JobState
    parameters: dict[str, Any]
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    execution_time: float | None = None
    attempt: int
    progress: Progress | None = None
    result: Invocation[T] | None = None
    error: str | None = None
    error_code: str | None = None
    canceled_by: str | None = None
    cancel_reason: str | None = None

    @property
    def ended(self) -> bool:
        return self.status.terminal


class Accepted(_Model):
    """The answer to a run that became a job."""

    job_id: str


class JobStatus(_Model):
    """The answer to a cancel."""

    job_id: str
    status: JobState


class JobPage(_Model):
    jobs: Sequence[Job[Any]]
    total: int
    next_cursor: str | None = None


class Event(_Model):
    """Something that happened in a job; `id` counts from 1 without gaps, the `data` of the last one is the envelope."""

    id: int
    event_type: str
    job_id: str
    run_id: str
    timestamp: datetime
    step_name: str | None = None
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """True for the last event of a job."""
        return self.event_type in _TERMINAL

    @property
    def delta(self) -> Any:  # any JSON
        """The piece of output of an `output_delta`; None for all others."""
        return self.data.get("delta") if self.event_type == "output_delta" else None


# Recorded runs


class RunSummary(_Model):
    """A recorded run as lists show it; `execution_time` is in seconds."""

    run_id: str
    run_name: str
    pipeline_name: str
    status: str
    attempt: int
    started_at: datetime
    completed_at: datetime | None = None
    execution_time: float | None = None
    error: str | None = None


class RunStep(_Model):
    number: int
    name: str
    status: str
    attempt: int
    started_at: datetime
    execution_time: float | None = None
    error: str | None = None
    outputs: Any = None
    metadata: dict[str, Any] | None = None


class RunLog(_Model):
    number: int
    timestamp: datetime
    level: str
    logger: str
    step_name: str | None = None
    message: str


class OmittedPayload(_Model):
    """A payload that is too large to be shown; `size` is in bytes."""

    step_number: int | None = None
    name: str
    size: int


class RecordedRun(RunSummary):
    """A recorded run with its parts; `next_step` and `next_log` are None where they are complete."""

    parameters: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    steps: Sequence[RunStep] = ()
    next_step: int | None = None
    logs: Sequence[RunLog] = ()
    next_log: int | None = None
    omitted: Sequence[OmittedPayload] = ()


class RunPage(_Model):
    runs: Sequence[RunSummary]
    next_cursor: str | None = None


# The deployment


class DeploymentInfo(_Model):
    id: str
    name: str
    auth_enabled: bool


class SnapshotInfo(_Model):
    id: str | None = None
    name: str | None = None


class PipelineInfo(_Model):
    name: str
    description: str | None = None
    steps: Sequence[str] = ()
    graph: dict[str, Any]
    parameters: dict[str, Any]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]


class Info(_Model):
    """What is served; `app` holds the runner's flavor and the paths of the endpoints, `uptime` is in seconds."""

    deployment: DeploymentInfo
    snapshot: SnapshotInfo
    pipeline: PipelineInfo
    app: dict[str, str | None]
    total_executions: int
    last_execution_time: datetime | None = None
    status: str
    uptime: float


class Health(_Model):
    """That the deployment is well; `uptime` is in seconds."""

    status: str
    uptime: float | None = None
    deployment_id: str | None = None
    pipeline_name: str | None = None
