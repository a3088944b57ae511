"""What is recorded of one run, until it is written."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic_core import to_json

from asgipipe.errors import RunCanceled
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.execution import message_of
from asgipipe.pipelines.observer import RunObserver, StepRecord, checked_metadata
from asgipipe.stores.database import Value
from asgipipe.tracking.payloads import LARGE, dump_outputs
from asgipipe.tracking.policy import Plan
from asgipipe.tracking.records import RUN, packed_step
from asgipipe.tracking.store import RUNNING, Rows

if TYPE_CHECKING:
    from asgipipe.pipelines.step import Step

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
    """Whose runs are recorded; `metadata` is the opening of a JSON object that says so in every run."""

    deployment: str
    pipeline: str
    metadata: bytes


@dataclass(slots=True)
class Part:
    """Some of what was recorded of a run. `large` are payloads for files: step number, name, JSON."""

    rows: Rows
    large: list[tuple[int, str, bytes]]
    count: int
    size: int
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

    def __init__(
        self, run: Run, plan: Plan, subject: Subject, writer: PartWriter, base: float, *, attempt: int, repeatable: bool
    ) -> None:
        self.plan = plan
        self.at = base + monotonic()
        self.ended = False
        self.written = False
        self.run = run
        self._subject = subject
        self._writer = writer
        self._attempt = attempt
        self._repeatable = repeatable
        self._base = base
        self._numbers = count(1)
        self._log_numbers = count(1)
        self._open: dict[int, StepRecord] = {}
        self._steps: deque[StepRecord] = deque()
        self._logs: deque[tuple[Value, ...]] = deque()
        self._large: deque[tuple[int, str, bytes]] = deque()
        self._size = 0
        self._held = 0
        self._metadata: dict[str, object] | None = None

    @property
    def is_quiet(self) -> bool:
        """True when nothing has come since the last part, but for steps that run."""
        return not (self._steps or self._logs)

    # Steps

    def step_began(self, step: "Step[..., object]") -> StepRecord:
        record = StepRecord(next(self._numbers), step.name, monotonic())
        self._open[record.number] = record
        return record

    def step_ended(self, record: StepRecord, step: "Step[..., object]", value: object) -> "Future[None] | None":
        if self.plan.payloads and not self.ended:
            outputs = record.outputs = dump_outputs(step, value)
            self._size += len(outputs)
        return self._keep(record, "completed")

    def step_failed(self, record: StepRecord, error: BaseException) -> None:
        record.error = message_of(error).replace("\0", "\\x00")
        canceled = isinstance(error, RunCanceled) or self.run.cancel_reason is not None
        self._keep(record, "canceled" if canceled else "failed")

    def step_restored(self, step: "Step[..., object]", value: object) -> None:
        """Take a step whose result was remembered from an attempt before."""
        record = self.step_began(step)
        if self.plan.payloads:
            record.outputs = dump_outputs(step, value)
        self._keep(record, "restored")

    def _keep(self, record: StepRecord, status: str) -> "Future[None] | None":
        record.seconds = monotonic() - record.started
        record.status = status
        self._open.pop(record.number, None)
        if self.ended:
            return None
        self._steps.append(record)
        if self.plan.failures_only:
            self._hold()
            return None
        if self.plan.waits:
            return self.flush()
        if len(self._steps) >= _PART_ROWS or self._size > _PART_BYTES:
            self.hand_over()
        return self._writer.room() if self._writer.full else None

    def _hold(self) -> None:
        """Keep what is held of a run that may yet fail within bounds: payloads of steps go first, then steps."""
        self._held += 1
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
        number = next(self._log_numbers)
        too_much = self.plan.failures_only and self._size > MAX_HELD_BYTES
        if number > MAX_LOGS or too_much:
            if number != MAX_LOGS + 1:
                return
            message = _FULL
        else:
            message = text()
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
        row = self._row(RUNNING, None, None, None, None)
        self._put(row, waiter)

    def finish(self, seconds: float) -> "Future[None] | None":
        """Hand over the rest, when the run has ended; the future, when the plan waits, is as in `flush`."""
        self.ended = True
        run = self.run
        status = _STATUS.get(run.status, "failed")
        if self.plan.failures_only and status != "failed":
            return None
        for record in tuple(self._open.values()):  # threads that were left behind
            record.status = "canceled"
            self._steps.append(record)
        error = None if run.outputs_json is not None else message_of(run.error)
        waiter: Future[None] | None = Future() if self.plan.waits else None
        self._put(self._row(status, self.at + seconds, seconds, error, run.outputs_json), waiter)
        return waiter

    def _put(self, row: tuple[Value, ...], waiter: "Future[None] | None") -> None:
        whole, self.written = self.ended and not self.written, True
        records, logs = _taken(self._steps), _taken(self._logs)
        open_steps = () if self.ended else tuple(self._open.values())
        steps = [self._step(record) for record in (*records, *open_steps)]
        packed = None
        if whole and len(steps) <= _PACKED_STEPS and self._size <= LARGE:
            packed, steps = b"[%b]" % b",".join([packed_step(step) for step in steps]), []
        size, self._size = self._size, 0
        size += len(row[10] or b"") + len(row[11] or b"")  # type: ignore[arg-type]  # payloads
        rows = Rows((*row, packed), steps, logs, self._repeatable)
        self._writer.put(Part(rows, _taken(self._large), 1 + len(steps) + len(logs), size, waiter))

    def _row(
        self, status: str, completed: float | None, seconds: float | None, error: str | None, outputs: bytes | None
    ) -> tuple[Value, ...]:
        run, plan, subject = self.run, self.plan, self._subject
        parameters = None
        if plan.payloads:
            parameters = self._inline(RUN, "parameters", run.parameters_json)
            outputs = None if outputs is None else self._inline(RUN, "outputs", outputs)
        else:
            outputs = None
        return (
            run.id,
            subject.deployment,
            subject.pipeline,
            run.name.replace("\0", "\\x00"),  # which PostgreSQL's texts cannot hold
            self._attempt,
            status,
            self.at,
            completed,
            seconds,
            None if error is None else error.replace("\0", "\\x00"),
            parameters,
            outputs,
            self._run_metadata() if plan.metadata else None,
        )

    def _run_metadata(self) -> bytes:
        opening = self._subject.metadata
        return b"%b}" % opening if self._metadata is None else b'%b,"user":%b}' % (opening, to_json(self._metadata))

    def _step(self, record: StepRecord) -> tuple[Value, ...]:
        outputs = record.outputs
        if outputs is not None:
            outputs = self._inline(record.number, "outputs", outputs)
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
        self._large.append((number, name, body))
        return None


def _taken(waiting: "deque[T]") -> list[T]:
    """Take out what is there now; others may add meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]
