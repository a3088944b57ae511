"""What is said about jobs and their events, and how it is written as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from pydantic_core import from_json, to_json

from asgipipe.jobs.states import JobState
from asgipipe.tracking.records import timestamp

PIPELINE_STARTED = "pipeline_started"
RETRYING = "retrying"
TERMINAL_EVENTS = {
    JobState.COMPLETED: "pipeline_completed",
    JobState.FAILED: "pipeline_failed",
    JobState.CANCELED: "pipeline_canceled",
}
"""The event that ends a job, by the state that it ends in; its data is the envelope."""

FAILED, TIMEOUT, INTERRUPTED, CANCELED = "failed", "timeout", "interrupted", "canceled"
"""What `error_code` says: the pipeline raised, its deadline passed, its workers were lost, somebody cancelled it."""

_TERMINAL = frozenset(TERMINAL_EVENTS.values())


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the table of jobs.

    `parameters`, `progress` and `result` (an envelope) are JSON. Times are seconds since the epoch. `attempt` is the
    fencing number: 0 before the first one. `owner` is the worker that has it, while it is running.
    """

    id: str
    deployment: str
    pipeline: str
    run_name: str
    state: JobState
    priority: int
    due_at: float
    created_at: float
    started_at: float | None
    completed_at: float | None
    execution_time: float | None
    attempt: int
    losses: int
    failures: int
    owner: int | None
    parameters: bytes
    options: bytes
    first_event: int
    last_event: int
    progress: bytes | None
    result: bytes | None
    error: str | None
    error_code: str | None
    cancel_requested: bool
    canceled_by: str | None
    cancel_reason: str | None

    @classmethod
    def pending(
        cls,
        *,
        id: str,
        deployment: str,
        pipeline: str,
        run_name: str,
        parameters: bytes,
        options: bytes,
        created_at: float,
        due_at: float,
        priority: int = 0,
    ) -> "Job":
        """Return a job as it is when it is accepted: nothing has happened yet."""
        return cls(
            id=id,
            deployment=deployment,
            pipeline=pipeline,
            run_name=run_name,
            state=JobState.PENDING,
            priority=priority,
            due_at=due_at,
            created_at=created_at,
            started_at=None,
            completed_at=None,
            execution_time=None,
            attempt=0,
            losses=0,
            failures=0,
            owner=None,
            parameters=parameters,
            options=options,
            first_event=1,
            last_event=0,
            progress=None,
            result=None,
            error=None,
            error_code=None,
            cancel_requested=False,
            canceled_by=None,
            cancel_reason=None,
        )

    def as_json(self) -> bytes:
        """Return the job as the HTTP contract has it."""
        return b"".join(
            (
                b'{"job_id":"%b","run_id":"%b","run_name":' % (self.id.encode(), self.id.encode()),
                to_json(self.run_name),
                b',"pipeline_name":',
                to_json(self.pipeline),
                b',"status":"%b","parameters":' % self.state.value.encode(),
                self.parameters,
                b',"created_at":"%b","started_at":' % timestamp(self.created_at).encode(),
                to_json(None if self.started_at is None else timestamp(self.started_at)),
                b',"completed_at":',
                to_json(None if self.completed_at is None else timestamp(self.completed_at)),
                b',"execution_time":',
                b"null" if self.execution_time is None else b"%.6f" % self.execution_time,
                b',"attempt":%d,"progress":' % self.attempt,
                self.progress or b"null",
                b',"result":',
                self.result or b"null",
                b',"error":',
                to_json(self.error),
                b',"error_code":',
                to_json(self.error_code),
                b',"canceled_by":',
                to_json(self.canceled_by),
                b',"cancel_reason":',
                to_json(self.cancel_reason),
                b"}",
            )
        )


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is run, with the settings of the time when it was submitted; `capture` is JSON."""

    timeout: float | None = None
    max_attempts: int = 3
    retries: int = 0
    capture: bytes | None = None

    def dump(self) -> bytes:
        return to_json(asdict(self))

    @classmethod
    def load(cls, options: bytes) -> "JobOptions":
        """Read what `dump` wrote: what an older version did not write yet has its default, a later one's is left."""
        names = {field.name for field in fields(cls)}
        given = cls(**{name: value for name, value in from_json(options).items() if name in names})
        return given if given.capture is None else replace(given, capture=str(given.capture).encode())


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a job, in order, and the job as it was no later than they were read."""

    job: Job
    events: "list[Event]"


@dataclass(frozen=True, slots=True)
class JobPage:
    """`total` counts what the filter lets through; `next_cursor` is None on the last page."""

    jobs: Sequence[Job]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job; `id` counts from 1 without gaps, `data` is JSON."""

    job_id: str
    id: int
    type: str
    step_name: str | None
    at: float
    data: bytes
    _open: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def terminal(self) -> bool:
        return self.type in _TERMINAL

    def as_json(self, *, also: bytes = b"") -> bytes:
        """Return the event as the HTTP contract has it; `also` are further members, with a comma before them.

        It is written once, however many followers there are.
        """
        if self._open is None:
            job = self.job_id.encode()
            written = (
                b'{"id":%d,"event_type":"%b","job_id":"%b","run_id":"%b","timestamp":"%b","step_name":%b,"data":%b'
                % (
                    self.id,
                    self.type.encode(),
                    job,
                    job,
                    timestamp(self.at).encode(),
                    to_json(self.step_name),
                    self.data,
                )
            )
            object.__setattr__(self, "_open", written)
            return b"%b%b}" % (written, also)
        return b"%b%b}" % (self._open, also)


def canceled_message(reason: str | None) -> str:
    return "the job was canceled" if reason is None else f"the job was canceled: {reason}"


@dataclass(frozen=True, slots=True)
class Addition:
    """What an attempt has to write while it runs; `results` are of steps: position, name, JSON."""

    events: Sequence[Event]
    progress: bytes | None
    results: Sequence[tuple[int, str, bytes]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends; `result` is its envelope, and the last of the events the terminal one."""

    state: JobState
    result: bytes
    error: str | None
    error_code: str | None
    execution_time: float | None
    events: Sequence[Event]
