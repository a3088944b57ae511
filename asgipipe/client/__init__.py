"""What Python programs manage and call deployments with."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgipipe.client.asynchronous import AsyncDeploymentClient, AsyncEventStream, AsyncJobHandle
    from asgipipe.client.client import Client
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
    from asgipipe.client.handle import DeploymentHandle
    from asgipipe.client.models import (
        Event,
        Health,
        Info,
        Invocation,
        Job,
        RecordedRun,
        RunSummary,
    )
    from asgipipe.client.retry import Retry
    from asgipipe.client.sync import DeploymentClient, EventStream, JobHandle

# A part is imported when it is used: the command line takes errors from here without httpx, which is slow to import.
_PARTS = {
    "asynchronous": ("AsyncDeploymentClient", "AsyncEventStream", "AsyncJobHandle"),
    "client": ("Client",),
    "errors": (
        "AnswerTimeoutError",
        "BusyError",
        "ClientError",
        "ConflictRefusedError",
        "ForeignAnswerError",
        "InputRefusedError",
        "InvocationCanceledError",
        "InvocationError",
        "InvocationTimeoutError",
        "KeyRefusedError",
        "OutputMismatchError",
        "RefusedError",
        "UnknownError",
        "UnreachableError",
    ),
    "handle": ("DeploymentHandle",),
    "models": ("Event", "Health", "Info", "Invocation", "Job", "RecordedRun", "RunSummary"),
    "retry": ("Retry",),
    "sync": ("DeploymentClient", "EventStream", "JobHandle"),
}
_HOMES = {name: f"asgipipe.client.{part}" for part, names in _PARTS.items() for name in names}

__all__ = [
    "AnswerTimeoutError",
    "AsyncDeploymentClient",
    "AsyncEventStream",
    "AsyncJobHandle",
    "BusyError",
    "Client",
    "ClientError",
    "ConflictRefusedError",
    "DeploymentClient",
    "DeploymentHandle",
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


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
