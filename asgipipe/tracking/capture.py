"""What is recorded of one run, until it is written."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Protocol, TypeVar

from pydantic_core import to_json

from asgipipe.errors import RunCanceled
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.execution import message_of
from asgipipe.pipelines.observer import ObservedStep, RunObserver, StepRecord, checked_metadata
from asgipipe.stores.database import Value
from asgipipe.tracking.payloads import LARGE, dump_outputs
from asgipipe.tracking.policy import Plan
from asgipipe.tracking.records import RUN, packed_steps
from asgipipe.tracking.store import RUNNING, Rows

MAX_LOGS = 10_000
"""Log records that are kept of one run."""
MAX_HELD_ROWS = 10_000
MAX_HELD_BYTES = 16 * 1024 * 1024
"""What is kept in memory of a run that is written only if it fails."""

_PART_ROWS = 200
_PART_BYTES = 1024 * 1024
"""What gathers of a run before it is handed to the writer."""
_PACKED_STEPS = 50
"""Steps that stand in the row of a run which is written as a whole: one row costs a third of four."""
_STATUS = {Status.COMPLETED: "completed", Status.CANCELED: "canceled"}
_FULL = "further log records of this run are not kept"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose runs are recorded; `metadata` is the JSON object that says so in every run."""

    deployment: str
    pipeline: str
    metadata: bytes


@dataclass(slots=True)
class Part(Rows):
    """Some of what was recorded of a run: `count` rows, `size` bytes.

    `large` are payloads for files: step number, name, JSON.
    """

    count: int = 1
    size: int = 0
    large: Sequence[tuple[int, str, bytes]] = ()
    waiter: "Future[None] | None" = None


class PartWriter(Protocol):
    """What takes the parts; `full` says that whoever adds more should wait in `room`."""

    full: bool
    keeps_files: bool

    def put(self, part: Part) -> None: ...

    def room(self) -> "Future[None]": ...


class RunCapture(RunObserver):
    """Looks on at one run and hands what it sees to the writer, in parts when that is much.

    Steps and logs come on any thread, the end on the event loop. `base` is what makes seconds since the epoch of those
    of the monotonic clock; `repeatable` says that the run is a job's, which others may have attempted.
    """

    # Defaults live in the class: a run that needs none of them pays for none of them.
    ended = False
    written = False
    _attempt = 1
    _repeatable = False
    _logged = 0
    _size = 0
    _metadata: dict[str, object] | None = None
    _large: "deque[tuple[int, str, bytes]] | None" = None

    def __init__(
        self, run: Run, plan: Plan, subject: Subject, writer: PartWriter, base: float, *, attempt: int, repeatable: bool
    ) -> None:
        self.run = run
        self.plan = plan
        self.began = monotonic()
        self._subject = subject
        self._writer = writer
        self._base = base
        self._steps: deque[StepRecord] = deque()
        self._logs: deque[tuple[Value, ...]] = deque()
        self._next_number = count(1).__next__
        if repeatable:
            self._attempt = attempt
            self._repeatable = True

    @property
    def is_quiet(self) -> bool:
        """True when nothing has come since the last part, but for steps that run."""
        return self.written and not self._logs and all(record.status == RUNNING for record in tuple(self._steps))

    # Steps

    def step_began(self, step: ObservedStep) -> StepRecord:
        record = StepRecord(self._next_number(), step.name, monotonic())
        self._steps.append(record)
        return record

    def step_ended(self, record: StepRecord, step: ObservedStep, value: object) -> "Future[None] | None":
        plan = self.plan
        if plan.payloads and not self.ended:
            outputs = record.outputs = dump_outputs(step, value)
            self._size += len(outputs)
        record.seconds = monotonic() - record.started
        record.status = "completed"
        if plan.in_background:
            if len(self._steps) >= _PART_ROWS or self._size > _PART_BYTES:
                self.hand_over()
            return self._writer.room() if self._writer.full else None
        return self._hold_or_flush()

    def step_failed(self, record: StepRecord, error: BaseException) -> None:
        record.error = message_of(error)
        record.seconds = monotonic() - record.started
        canceled = isinstance(error, RunCanceled) or self.run.cancel_reason is not None
        record.status = "canceled" if canceled else "failed"
        self._hold_or_flush()

    def step_restored(self, step: ObservedStep, value: object) -> None:
        record = self.step_began(step)
        if self.plan.payloads:
            record.outputs = dump_outputs(step, value)
        record.status = "restored"

    def _hold_or_flush(self) -> "Future[None] | None":
        if self.plan.failures_only:
            self._hold()
        elif self.plan.waits and not self.ended:
            return self.flush()
        return None

    def _hold(self) -> None:
        """Keep what is held of a run that may yet fail within bounds: payloads of steps go first, then steps."""
        if self._size > MAX_HELD_BYTES:
            for record in tuple(self._steps):
                record.outputs = None
            self._size = 0
        if len(self._steps) > MAX_HELD_ROWS:
            self._steps.popleft()

    def add_metadata(self, data: Mapping[str, object]) -> None:
        self._metadata = checked_metadata(self._metadata, data)

    # Logs

    def log(self, record: logging.LogRecord, step_name: str | None, text: Callable[[], str]) -> None:
        """Keep a log record, if the plan wants it."""
        if self.ended or record.levelno < self.plan.log_level:
            return
        number = self._logged = self._logged + 1
        if number > MAX_LOGS + 1 or self._size > MAX_HELD_BYTES:
            return
        message = _FULL if number == MAX_LOGS + 1 else text()
        self._size += len(message)
        row = (self.run.id, number, record.created, record.levelno, record.name[:200], step_name, message)
        self._logs.append(row)
        if not self.plan.failures_only and (len(self._logs) >= _PART_ROWS or self._size > _PART_BYTES):
            self.hand_over()

    # Parts

    def flush(self) -> "Future[None]":
        """Hand over what there is; the future is done when that and all before it is durable, or lost."""
        waiter: Future[None] = Future()
        self.hand_over(waiter)
        return waiter

    def hand_over(self, waiter: "Future[None] | None" = None) -> None:
        """Hand over what there is of a run that goes on."""
        if not self.ended:
            self._put(self._row(RUNNING), waiter)

    def finish(self, seconds: float) -> "Future[None] | None":
        """Hand over the rest, when the run has ended; the future, when the plan waits, is as in `flush`."""
        self.ended = True
        run, steps = self.run, self._steps
        completed = run.outputs_json is not None
        status = "completed" if completed else _STATUS.get(run.status, "failed")
        if self.plan.failures_only and status != "failed":
            return None
        packed = None
        if not self.written and len(steps) <= _PACKED_STEPS and self._size <= LARGE:
            for record in steps:
                if record.status == RUNNING:  # in a thread that was left behind
                    record.status = "canceled"
            packed = packed_steps(steps, self._base, metadata=self.plan.metadata)
            steps.clear()
        waiter: Future[None] | None = Future() if self.plan.waits else None
        error = None if completed else message_of(run.error)
        row = self._row(status, seconds, error, run.outputs_json, packed)
        self._put(row, waiter)
        return waiter

    def _put(self, row: tuple[Value, ...], waiter: "Future[None] | None") -> None:
        self.written = True
        part = Part(row, repeatable=self._repeatable, waiter=waiter)
        part.size = self._size + _size_of(row[10]) + _size_of(row[11])
        self._size = 0
        if self._steps:
            part.steps = [self._step(record) for record in self._taken_steps()]
        if self._logs:
            part.logs = _taken(self._logs)
        if self._large:
            part.large = _taken(self._large)
        part.count = 1 + len(part.steps) + len(part.logs)
        self._writer.put(part)

    def _taken_steps(self) -> list[StepRecord]:
        """Take out what there is, but leave what has not ended: that comes once more."""
        records = _taken(self._steps)
        if not self.ended:
            self._steps.extend(record for record in records if record.status == RUNNING)
        return records

    def _row(
        self,
        status: str,
        seconds: float | None = None,
        error: str | None = None,
        outputs: bytes | None = None,
        steps: bytes | None = None,
    ) -> tuple[Value, ...]:
        run, plan, subject = self.run, self.plan, self._subject
        began, parameters = self._base + self.began, None
        if plan.payloads:
            parameters = self._inline(RUN, "parameters", run.parameters_json)
            if outputs is not None:
                outputs = self._inline(RUN, "outputs", outputs)
        else:
            outputs = None
        return (
            run.id,
            subject.deployment,
            subject.pipeline,
            run.name,
            self._attempt,
            status,
            began,
            None if seconds is None else began + seconds,
            seconds,
            error,
            parameters,
            outputs,
            self._run_metadata() if plan.metadata else None,
            steps,
        )

    def _run_metadata(self) -> bytes:
        whole = self._subject.metadata
        return whole if self._metadata is None else b'%b,"user":%b}' % (whole[:-1], to_json(self._metadata))

    def _step(self, record: StepRecord) -> tuple[Value, ...]:
        outputs = record.outputs
        if outputs is not None:
            outputs = self._inline(record.number, "outputs", outputs)
        if self.ended and record.status == RUNNING:  # in a thread that was left behind
            record.status = "canceled"
        metadata = record.metadata if self.plan.metadata else None
        return (
            self.run.id,
            record.number,
            record.name,
            record.status,
            record.attempt,
            self._base + record.started,
            None if record.status == RUNNING else record.seconds,
            record.error,
            outputs,
            None if metadata is None else to_json(metadata),
        )

    def _inline(self, number: int, name: str, body: bytes) -> bytes | None:
        """Return a payload that stands in its row; a large one is put aside for a file."""
        if len(body) <= LARGE or not self._writer.keeps_files:
            return body
        if self._large is None:
            self._large = deque()
        self._large.append((number, name, body))
        return None


def _size_of(text: Value) -> int:
    return len(text) if isinstance(text, bytes) else 0


def _taken(waiting: "deque[T]") -> list[T]:
    """Take out what is there now; others may add meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]
