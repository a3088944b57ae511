"""What is known of recorded runs, and how it is written as JSON."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from pydantic_core import to_json

from asgipipe.stores.database import Row

RUN = 0
"""The number that stands for the run itself, where steps have theirs."""
RUNNING = "running"
COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose runs are recorded; `metadata` is the JSON object that says so in every run."""

    deployment: str
    pipeline: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class RecordedArtifact:
    """A payload apart from its row: `parameters` or `outputs` of a step, or of the run where the number is 0.

    `size` is in bytes of JSON; `content_hash` names its file.
    """

    step_number: int
    name: str
    size: int
    content_hash: str | None

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(*row)  # type: ignore[arg-type]  # as the table has them


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """Times are in seconds, since the epoch and of duration; `outputs` and `metadata` are JSON."""

    number: int
    name: str
    status: str
    attempt: int
    started_at: float
    execution_time: float | None
    error: str | None
    outputs: bytes | None
    metadata: bytes | None

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(*row)  # type: ignore[arg-type]  # as the table has them

    def as_json(self) -> bytes:
        head = {
            "number": self.number,
            "name": self.name,
            "status": self.status,
            "attempt": self.attempt,
            "started_at": timestamp(self.started_at),
            "execution_time": None if self.execution_time is None else round(self.execution_time, 6),
            "error": self.error,
        }
        return _object(head, {"outputs": self.outputs, "metadata": self.metadata})


@dataclass(frozen=True, slots=True)
class RecordedLog:
    """A record of `logging`; `level` is a number of the standard library's."""

    number: int
    at: float
    level: int
    logger: str
    step_name: str | None
    message: str

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(*row)  # type: ignore[arg-type]  # as the table has them

    def as_json(self) -> bytes:
        return to_json(
            {
                "number": self.number,
                "timestamp": timestamp(self.at),
                "level": logging.getLevelName(self.level).lower(),
                "logger": self.logger,
                "step_name": self.step_name,
                "message": self.message,
            }
        )


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run; the list of runs has it without payloads, metadata and parts.

    Times are in seconds, since the epoch and of duration; `parameters`, `outputs` and `metadata` are JSON. A payload
    that is too large to be shown is None, and among the `omitted` ones. Where there are more steps or log records,
    `next_step` and `next_log` are the numbers after which they begin.
    """

    id: str
    deployment: str
    pipeline: str
    name: str
    attempt: int
    status: str
    started_at: float
    completed_at: float | None
    execution_time: float | None
    error: str | None
    parameters: bytes | None
    outputs: bytes | None
    metadata: bytes | None
    steps: Sequence[RecordedStep] = field(default=())
    logs: Sequence[RecordedLog] = field(default=())
    omitted: Sequence[RecordedArtifact] = field(default=())
    next_step: int | None = None
    next_log: int | None = None

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(*row)  # type: ignore[arg-type]  # as above

    @classmethod
    def listed(cls, row: Row) -> Self:
        return cls(*row, None, None, None)  # type: ignore[call-arg,arg-type]  # as above

    def _head(self) -> dict[str, object]:
        return {
            "run_id": self.id,
            "run_name": self.name,
            "pipeline_name": self.pipeline,
            "status": self.status,
            "attempt": self.attempt,
            "started_at": timestamp(self.started_at),
            "completed_at": None if self.completed_at is None else timestamp(self.completed_at),
            "execution_time": None if self.execution_time is None else round(self.execution_time, 6),
            "error": self.error,
        }

    def summary_json(self) -> bytes:
        """Return what the list shows."""
        return to_json(self._head())

    def as_json(self) -> bytes:
        """Return all that is known."""
        omitted = [{"step_number": one.step_number or None, "name": one.name, "size": one.size} for one in self.omitted]
        return _object(
            self._head(),
            {
                "parameters": self.parameters,
                "outputs": self.outputs,
                "metadata": self.metadata,
                "steps": _list(step.as_json() for step in self.steps),
                "next_step": to_json(self.next_step),
                "logs": _list(log.as_json() for log in self.logs),
                "next_log": to_json(self.next_log),
                "omitted": to_json(omitted),
            },
        )


@dataclass(frozen=True, slots=True)
class RunPage:
    """`next_cursor` is None on the last page."""

    runs: Sequence[RecordedRun]
    next_cursor: str | None

    def as_json(self) -> bytes:
        members = {"runs": _list(run.summary_json() for run in self.runs), "next_cursor": to_json(self.next_cursor)}
        return _object({}, members)


def with_user(metadata: bytes, user: Mapping[str, object] | None) -> bytes:
    """Return the metadata of a run: that of its deployment, and what its code has added, which may be nothing."""
    return b'%b,"user":%b}' % (metadata[:-1], to_json(user)) if user else metadata


def timestamp(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _list(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def _object(values: Mapping[str, object], texts: Mapping[str, bytes | None]) -> bytes:
    """Return a JSON object of values, and of texts that are JSON already."""
    members = [b"%b:%b" % (to_json(name), to_json(value)) for name, value in values.items()]
    members += [b"%b:%b" % (to_json(name), text or b"null") for name, text in texts.items()]
    return b"{%b}" % b",".join(members)
