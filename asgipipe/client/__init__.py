"""What Python programs manage and call deployments with."""

from asgipipe.client.asynchronous import AsyncDeploymentClient, AsyncEventStream, AsyncJobHandle
from asgipipe.client.errors import (
    AnswerTimeoutError,
    BusyError,
    ClientError,
    ConflictRefusedError,
    ForeignAnswerError,
    InputRefusedError,
    InvocationCanceledError,
    InvocationError,
    InvocationTimeoutError,
    KeyRefusedError,
    OutputMismatchError,
    RefusedError,
    UnknownError,
    UnreachableError,
)
from asgipipe.client.models import Event, Health, Info, Invocation, Job, RecordedRun, RunSummary
from asgipipe.client.retry import Retry
from asgipipe.client.sync import DeploymentClient, EventStream, JobHandle

__all__ = [
    "AnswerTimeoutError",
    "AsyncDeploymentClient",
    "AsyncEventStream",
    "AsyncJobHandle",
    "BusyError",
    "ClientError",
    "ConflictRefusedError",
    "DeploymentClient",
    "Event",
    "EventStream",
    "ForeignAnswerError",
    "Health",
    "Info",
    "InputRefusedError",
    "Invocation",
    "InvocationCanceledError",
    "InvocationError",
    "InvocationTimeoutError",
    "Job",
    "JobHandle",
    "KeyRefusedError",
    "OutputMismatchError",
    "RecordedRun",
    "RefusedError",
    "Retry",
    "RunSummary",
    "UnknownError",
    "UnreachableError",
]
