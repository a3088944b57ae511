"""Whoever looks on while a run's steps are executed."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

MAX_METADATA = 64 * 1024
"""Bytes of JSON that `add_metadata` takes, for each step and for the run."""


class ObservedStep(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def output_names(self) -> tuple[str, ...]: ...


class StepRecord:
    """One call of a step.

    `started` and `ended` are in seconds of the monotonic clock, with all attempts in between. `outputs` is JSON, empty
    where it is not kept. `number` counts the calls of the run from 1, once it is known.
    """

    # Defaults live in the class, and whoever makes one sets the rest: what is not told of a step costs nothing, and
    # `__init__` would cost as much as all that is told.
    name: str
    started: float
    ended: float | None = None
    number = 0
    attempt = 1
    status = "running"
    error: str | None = None
    outputs = b""
    metadata: dict[str, object] | None = None


class RunObserver(ABC):
    """What a run tells about its steps, in the thread where it happens.

    Where `step_ended` returns a future, the step does not end before that is done; steps that cannot wait go on.
    """

    @abstractmethod
    def step_began(self, step: ObservedStep) -> StepRecord: ...

    @abstractmethod
    def step_ended(self, record: StepRecord, step: ObservedStep, value: object) -> "Future[None] | None": ...

    @abstractmethod
    def step_failed(self, record: StepRecord, error: BaseException) -> None: ...

    @abstractmethod
    def step_restored(self, step: ObservedStep, value: object) -> None:
        """Take a step that was not run, because its result is known from an attempt before."""

    @abstractmethod
    def add_metadata(self, data: Mapping[str, object]) -> None:
        """Add to what is known of the run."""


def checked_metadata(known: Mapping[str, object] | None, data: Mapping[str, object]) -> dict[str, object]:
    """Return `known` with `data` laid over it, as plain JSON values.

    Raises ValueError for what has no JSON form and beyond MAX_METADATA.
    """
    try:
        text = json.dumps({**(known or {}), **data}, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata is what JSON can hold, under names that are text: {error}") from None
    if len(text) > MAX_METADATA:
        raise ValueError(f"metadata has {MAX_METADATA} bytes of JSON at most; these would be {len(text)}")
    found: dict[str, object] = json.loads(text)
    return found
