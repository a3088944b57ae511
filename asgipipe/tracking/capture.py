"""What is recorded of one run, until it is written."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, TypeVar

from pydantic_core import to_json

from asgipipe.errors import RunCanceled
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.execution import message_of
from asgipipe.pipelines.observer import ObservedStep, RunObserver, StepRecord, checked_metadata
from asgipipe.stores.database import Value
from asgipipe.tracking.bundles import LogFacts, StepFacts, packed
from asgipipe.tracking.payloads import LARGE, dump_outputs
from asgipipe.tracking.policy import Plan
from asgipipe.tracking.records import COMPLETED, RUN, RUNNING, Subject, with_user
from asgipipe.tracking.store import Rows

MAX_LOGS = 10_000
"""Log records that are kept of one run."""
MAX_HELD_ROWS = 10_000
MAX_HELD_BYTES = 16 * 1024 * 1024
"""What is kept in memory of a run that is written only if it fails."""

_PART_ROWS = 200
_PART_BYTES = 1024 * 1024
"""What gathers of a run before it is handed to the writer."""
_BUNDLED_PARTS = 50
"""Steps, and log records, of a run that may stand in a bundle."""
_LEFT = "canceled"
"""What became of a step that the end of its run has left behind in a thread."""
_STATUS = {Status.COMPLETED: "completed", Status.CANCELED: "canceled"}
_FULL = "further log records of this run are not kept"

Large = tuple[int, str, bytes]
"""A payload for a file: step number, name, JSON."""

T = TypeVar("T")


@dataclass(slots=True)
class Part(Rows):
    """Some of what was recorded of a run: `count` rows, `size` bytes; `large` payloads are for files."""

    count: int = 1
    size: int = 0
    large: Sequence[Large] = ()
    waiter: "Future[None] | None" = None


class PartWriter(Protocol):
    """What takes the parts; `full` says that whoever adds more should wait in `room`."""

    full: bool
    keeps_files: bool

    def put(self, part: Part) -> None: ...

    def put_run(self, run_id: str, run: bytes) -> None: ...

    def room(self) -> "Future[None]": ...


class RunCapture(RunObserver):
    """Looks on at one run and hands what it sees to the writer: for a bundle at the end, or in rows, a part at a time.

    Steps and logs come on any thread, the end on the event loop. `base` is what makes seconds since the epoch of those
    of the monotonic clock; `repeatable` says that the run is a job's, which others may have attempted.
    """

    # Defaults live in the class: a run that needs none of them pays for none of them.
    _attempt = 1
    _repeatable = False
    _logged = 0
    _numbered = 0
    _metadata: dict[str, object] | None = None

    def __init__(
        self, run: Run, plan: Plan, subject: Subject, writer: PartWriter, base: float, *, attempt: int, repeatable: bool
    ) -> None:
        self.run = run
        self.plan = plan
        self.ended = False
        self.written = False
        self.began = monotonic()
        self._subject = subject
        self._writer = writer
        self._base = base
        self._size = 0
        self._steps: list[StepRecord] = []
        self._logs: list[LogFacts] = []
        if repeatable:
            self._attempt = attempt
            self._repeatable = True

    @property
    def is_quiet(self) -> bool:
        """True when nothing has come since the last part, but for steps that run."""
        return self.written and not self._logs and all(record.ended is None for record in tuple(self._steps))

    # Steps

    def step_began(self, step: ObservedStep) -> StepRecord:
        record = StepRecord()
        record.name = step.name
        record.started = monotonic()
        self._steps.append(record)
        return record

    def step_ended(self, record: StepRecord, step: ObservedStep, value: object) -> "Future[None] | None":
        record.ended = monotonic()
        record.status = COMPLETED
        plan = self.plan
        if plan.payloads and not self.ended:
            outputs = record.outputs = dump_outputs(step, value)
            self._size += len(outputs)
        if plan.in_background:
            if len(self._steps) >= _PART_ROWS or self._size > _PART_BYTES:
                self.hand_over()
            return self._writer.room() if self._writer.full else None
        return self._hold_or_flush()

    def step_failed(self, record: StepRecord, error: BaseException) -> None:
        record.error = message_of(error)
        record.ended = monotonic()
        canceled = isinstance(error, RunCanceled) or self.run.cancel_reason is not None
        record.status = "canceled" if canceled else "failed"
        self._hold_or_flush()

    def step_restored(self, step: ObservedStep, value: object) -> None:
        record = self.step_began(step)
        record.ended = record.started
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
                record.outputs = b""
            self._size = 0
        if len(self._steps) > MAX_HELD_ROWS:
            del self._steps[0]
            self._numbered += 1

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
        self._logs.append((number, record.created, record.levelno, record.name[:200], step_name, message))
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
            self._put(waiter)

    def finish(self, seconds: float) -> "Future[None] | None":
        """Hand over the rest, when the run has ended; the future, when the plan waits, is as in `flush`."""
        self.ended = True
        run, plan = self.run, self.plan
        if run.outputs_json is not None:
            whole = self._packed(seconds, run.outputs_json)
            if whole is not None:
                self._writer.put_run(run.id, whole)
                return None
            status, error = COMPLETED, None
        else:
            status, error = _STATUS.get(run.status, "failed"), message_of(run.error)
        if plan.failures_only and status != "failed":
            return None
        waiter: Future[None] | None = Future() if plan.waits else None
        self._put(waiter, status, seconds, error, run.outputs_json)
        return waiter

    def _packed(self, seconds: float, outputs: bytes) -> bytes | None:
        """Return a run that completed, for a bundle; None when it is not as most are."""
        run, plan, records, logs = self.run, self.plan, self._steps, self._logs
        if self.written or not plan.in_background or len(records) > _BUNDLED_PARTS or len(logs) > _BUNDLED_PARTS:
            return None
        if self._repeatable or self._size + len(run.parameters_json) + len(outputs) > LARGE:
            return None
        noted = plan.metadata
        steps: list[StepFacts] = []
        payloads = [run.parameters_json, outputs] if plan.payloads else [b"", b""]
        for record in records:
            name, started, ended = record.name, record.started, record.ended
            status = _LEFT if ended is None else record.status
            notes = record.metadata if noted else None
            if status == COMPLETED and record.attempt == 1 and notes is None:
                steps.append((name, started, ended))
            else:
                steps.append((name, started, ended, status, record.attempt, record.error, notes))
            payloads.append(record.outputs)
        metadata = (self._metadata or {}) if noted else None
        return packed((run.id, run.name, self._base, self.began, seconds, metadata, steps, logs), payloads)

    # Rows

    def _put(
        self,
        waiter: "Future[None] | None",
        status: str = RUNNING,
        seconds: float | None = None,
        error: str | None = None,
        outputs: bytes | None = None,
    ) -> None:
        """Hand over what there is in rows of its own."""
        self.written = True
        run_id, size, self._size = self.run.id, self._size, 0
        large: list[Large] = []
        row = self._row(large, status, seconds, error, outputs)
        lock: threading.Lock = self.__dict__.setdefault("_lock", threading.Lock())
        with lock:
            steps, logs = self._taken_steps(), _taken(self._logs)
        part = Part(row, [self._step(large, record) for record in steps], [(run_id, *log) for log in logs])
        part.count = 1 + len(steps) + len(logs)
        part.size = size + sum(len(text) for text in row if isinstance(text, bytes))
        part.large, part.repeatable, part.waiter = large, self._repeatable, waiter
        self._writer.put(part)

    def _taken_steps(self) -> list[StepRecord]:
        """Take out what there is, but leave what has not ended: that comes once more."""
        records = _taken(self._steps)
        for record in records:
            if not record.number:
                record.number = self._numbered = self._numbered + 1
        if not self.ended:
            self._steps.extend(record for record in records if record.ended is None)
        return records

    def _row(
        self, large: list[Large], status: str, seconds: float | None, error: str | None, outputs: bytes | None
    ) -> tuple[Value, ...]:
        run, plan, subject = self.run, self.plan, self._subject
        began = self._base + self.began
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
            self._inline(large, RUN, "parameters", run.parameters_json) if plan.payloads else None,
            self._inline(large, RUN, "outputs", outputs) if plan.payloads else None,
            with_user(subject.metadata, self._metadata) if plan.metadata else None,
        )

    def _step(self, large: list[Large], record: StepRecord) -> tuple[Value, ...]:
        ended, metadata = record.ended, record.metadata if self.plan.metadata else None
        return (
            self.run.id,
            record.number,
            record.name,
            _LEFT if ended is None and self.ended else record.status,
            record.attempt,
            self._base + record.started,
            None if ended is None else ended - record.started,
            record.error,
            self._inline(large, record.number, "outputs", record.outputs),
            None if metadata is None else to_json(metadata),
        )

    def _inline(self, large: list[Large], number: int, name: str, body: bytes | None) -> bytes | None:
        """Return a payload that stands in its row; one that is to have a file goes to the `large` ones."""
        if not body:
            return None
        if len(body) <= LARGE or not self._writer.keeps_files:
            return body
        large.append((number, name, body))
        return None


def _taken(waiting: list[T]) -> list[T]:
    """Take out what is there now; others may add meanwhile."""
    taken = waiting[:]
    del waiting[: len(taken)]
    return taken
