"""Whoever looks on while a run's steps are executed."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgipipe.pipelines.step import Step

MAX_METADATA = 64 * 1024
"""Bytes of JSON that `add_metadata` takes, for each step and for the run."""


class StepRecord:
    """One call of a step.

    `number` counts the calls of the run from 1. `started` is in seconds of the monotonic clock, `seconds` how long it
    took with all its attempts. `outputs` is JSON.
    """

    __slots__ = ("attempt", "error", "metadata", "name", "number", "outputs", "seconds", "started", "status")

    def __init__(self, number: int, name: str, started: float) -> None:
        self.number = number
        self.name = name
        self.started = started
        self.attempt = 1
        self.seconds = 0.0
        self.status = "running"
        self.error: str | None = None
        self.outputs: bytes | None = None
        self.metadata: dict[str, object] | None = None


class RunObserver(ABC):
    """What a run tells about its steps, in the thread where it happens.

    Where `step_ended` returns a future, the step does not end before that is done; steps that cannot wait go on.
    """

    @abstractmethod
    def step_began(self, step: "Step[..., object]") -> StepRecord: ...

    @abstractmethod
    def step_ended(self, record: StepRecord, step: "Step[..., object]", value: object) -> "Future[None] | None": ...

    @abstractmethod
    def step_failed(self, record: StepRecord, error: BaseException) -> None: ...

    @abstractmethod
    def step_restored(self, step: "Step[..., object]", value: object) -> None:
        """Take a step that was not run, because its result is known from an attempt before."""

    @abstractmethod
    def add_metadata(self, data: Mapping[str, object]) -> None:
        """Add to what is known of the run."""


def checked_metadata(known: Mapping[str, object] | None, data: Mapping[str, object]) -> dict[str, object]:
    """Return `known` with `data` laid over it, as plain JSON values.

    Raises ValueError for what has no JSON form and beyond MAX_METADATA.
    """
    try:
        text = json.dumps({**(known or {}), **data}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata is what JSON can hold, under names that are text: {error}") from None
    if len(text) > MAX_METADATA:
        raise ValueError(f"metadata has {MAX_METADATA} bytes of JSON at most; these would be {len(text)}")
    found: dict[str, object] = json.loads(text)
    return found
