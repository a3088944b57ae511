"""Everything that moves a job from state to state, and what is written with it: parts of operations on the database."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from asgipipe.errors import ConflictError, NotFoundError
from asgipipe.jobs import direct
from asgipipe.jobs.keys import release_all
from asgipipe.jobs.records import (
    CANCELED,
    INTERRUPTED,
    TERMINAL_EVENTS,
    Addition,
    Ending,
    Event,
    Job,
    JobOptions,
    canceled_message,
)
from asgipipe.jobs.rows import (
    COLUMNS,
    StaleAttemptError,
    added,
    check_numbers,
    found,
    job_of,
    locking,
    moved,
    progress_in,
    record,
)
from asgipipe.jobs.states import JobState
from asgipipe.stores.database import Transaction

OnPending = Callable[[Transaction, str, int, float], None]
Envelope = Callable[[Job, str], bytes]
"""Writes the envelope of a job that ended while nobody ran it; the text is its error."""

_PROMOTED = 1000
"""How many jobs whose time has come one claim looks at, at most."""
_TAKEN_OVER = 1000


class Transitions:
    """The moves of one deployment's jobs. Each method takes the transaction that it is a part of."""

    def __init__(
        self, deployment: str, clock: Callable[[], float], on_pending: OnPending | None, max_events: int
    ) -> None:
        self._deployment = deployment
        self._clock = clock
        self._on_pending = on_pending
        self._max_events = max_events

    def insert(self, transaction: Transaction, job: Job, *, keyed: bool) -> Callable[[], Job]:
        """Insert a pending job, and return what sees to its delivery; one that is there already is returned."""
        is_added = added(transaction, job, delayed=job.due_at > self._clock(), keyed=keyed)

        def inserted() -> Job:
            if not is_added():
                return found(transaction, self._deployment, job.id) or job
            self._pending(transaction, job)
            return job

        return inserted

    # Claims

    def claim(self, transaction: Transaction, owner: int, limit: int) -> list[Job]:
        skip = locking(transaction, skip=True)
        # What waits for its time is not looked at by those who look for work, however much it is.
        transaction.change(
            "UPDATE jobs SET delayed = 0 WHERE id IN (SELECT id FROM jobs"  # noqa: S608  # constants
            " WHERE deployment = ? AND state = 'pending' AND delayed = 1 AND due_at <= ?"
            f" ORDER BY due_at LIMIT ?{skip})",
            self._deployment,
            self._clock(),
            _PROMOTED,
        )
        rows = transaction.rows(
            f"SELECT {COLUMNS} FROM jobs WHERE deployment = ? AND state = 'pending' AND delayed = 0"  # noqa: S608  # constants
            f" ORDER BY priority DESC, id LIMIT ?{skip}",
            self._deployment,
            limit,
        )
        return [self._begin(transaction, job_of(row), owner) for row in rows]

    def claim_one(self, transaction: Transaction, owner: int, job_id: str) -> Callable[[], Job | None]:
        if transaction.dialect == "postgresql":
            return direct.claim(transaction, self._deployment, owner, job_id, self._clock())
        job = self._claim_one(transaction, owner, job_id)
        return lambda: job

    def _claim_one(self, transaction: Transaction, owner: int, job_id: str) -> Job | None:
        job = found(transaction, self._deployment, job_id, lock=True)
        if job is None or job.state is not JobState.PENDING or job.due_at > self._clock():
            return None
        return self._begin(transaction, job, owner)

    def still_claimed(self, transaction: Transaction, jobs: Sequence[Job]) -> list[Job]:
        """Return those of `jobs`, as they are now, that their owner has: an operation which has claimed them is done
        again because nobody knows whether its commit succeeded, and nobody else would ever run what it did claim.
        """
        now = [found(transaction, self._deployment, job.id) for job in jobs]
        return [
            job
            for job, before in zip(now, jobs, strict=True)
            if job is not None
            and job.state is JobState.RUNNING
            and (job.attempt, job.owner) == (before.attempt, before.owner)
        ]

    def _begin(self, transaction: Transaction, job: Job, owner: int) -> Job:
        return moved(
            transaction,
            job,
            JobState.RUNNING,
            attempt=job.attempt + 1,
            owner=owner,
            started_at=max(self._clock(), job.created_at),  # the clock may have been set back
        )

    # Attempts

    def append(self, transaction: Transaction, job_id: str, attempt: int, addition: Addition) -> Callable[[], None]:
        def step_by_step() -> None:
            self._append(transaction, job_id, attempt, addition)

        if not direct.possible(transaction, addition.events, addition.results):
            return step_by_step
        is_done = direct.append(transaction, self._hold(job_id, attempt), addition)
        return lambda: None if is_done() else step_by_step()

    def _append(self, transaction: Transaction, job_id: str, attempt: int, addition: Addition) -> None:
        row = transaction.row(
            "SELECT first_event, last_event FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'"  # noqa: S608  # constants
            + locking(transaction),
            job_id,
            attempt,
        )
        if row is None:
            raise StaleAttemptError(job_id, attempt)
        first, last = row
        assert isinstance(first, int)
        assert isinstance(last, int)
        check_numbers(addition.events, last)
        first, last = record(transaction, addition.events, first=first, last=last, most=self._max_events)
        transaction.change(
            "UPDATE jobs SET first_event = ?, last_event = ?, progress = COALESCE(?, progress) WHERE id = ?",
            first,
            last,
            addition.progress,
            job_id,
        )
        transaction.change_many(
            "INSERT INTO step_results (job_id, position, name, attempt, value) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (job_id, position, name) DO UPDATE SET attempt = excluded.attempt, value = excluded.value",
            [(job_id, position, name, attempt, value) for position, name, value in addition.results],
        )

    def finish(self, transaction: Transaction, job_id: str, attempt: int, ending: Ending) -> Callable[[], None]:
        def step_by_step() -> None:
            self._finish(transaction, job_id, attempt, ending)

        if not direct.possible(transaction, ending.events):
            return step_by_step
        is_done = direct.finish(transaction, self._hold(job_id, attempt), ending, self._clock())
        return lambda: None if is_done() else step_by_step()

    def _finish(self, transaction: Transaction, job_id: str, attempt: int, ending: Ending) -> None:
        job = self._attempt(transaction, job_id, attempt)
        if job.state is not ending.state or job.result != ending.result:
            self._end(transaction, _running(job), ending)

    def put_back(
        self,
        transaction: Transaction,
        job_id: str,
        attempt: int,
        *,
        due_at: float,
        failed: bool,
        events: Sequence[Event],
    ) -> Job:
        job = self._attempt(transaction, job_id, attempt)
        if job.state is JobState.PENDING and job.due_at == due_at and events and events[-1].id == job.last_event:
            return job
        # One that is to be cancelled is due at once, so that somebody sees to that.
        due_at = min(due_at, self._clock()) if job.cancel_requested else due_at
        job = replace(_running(job), failures=job.failures + failed)
        return self._release(transaction, job, due_at, events)

    def lose(self, transaction: Transaction, job_id: str, attempt: int, envelope: Envelope) -> Job:
        return self._lost(transaction, _running(self._attempt(transaction, job_id, attempt)), envelope)

    def _hold(self, job_id: str, attempt: int) -> direct.Hold:
        return direct.Hold(self._deployment, job_id, attempt, self._max_events)

    def _attempt(self, transaction: Transaction, job_id: str, attempt: int) -> Job:
        job = found(transaction, self._deployment, job_id, lock=True)
        if job is None or job.attempt != attempt:
            raise StaleAttemptError(job_id, attempt)
        return job

    # What comes from outside

    def take_over(self, transaction: Transaction, worker: int, envelope: Envelope) -> list[Job]:
        release_all(transaction, self._deployment, worker)
        rows = transaction.rows(
            f"SELECT {COLUMNS} FROM jobs WHERE deployment = ? AND state = 'running' AND owner = ?"  # noqa: S608  # constants
            f" ORDER BY id LIMIT ?{locking(transaction, skip=True)}",
            self._deployment,
            worker,
            _TAKEN_OVER,
        )
        return [self._lost(transaction, job_of(row), envelope) for row in rows]

    def _lost(self, transaction: Transaction, job: Job, envelope: Envelope) -> Job:
        job = replace(job, losses=job.losses + 1)
        if job.cancel_requested:
            return self._end_idle(transaction, job, JobState.CANCELED, canceled_message(job.cancel_reason), envelope)
        if job.losses >= JobOptions.load(job.options).max_attempts:
            times = "once" if job.losses == 1 else f"{job.losses} times"
            message = f"the worker that ran the job was lost {times}"
            return self._end_idle(transaction, job, JobState.FAILED, message, envelope)
        return self._release(transaction, job, self._clock(), ())

    def cancel(
        self, transaction: Transaction, job_id: str, *, reason: str | None, by: str | None, envelope: Envelope
    ) -> Job:
        job = found(transaction, self._deployment, job_id, lock=True)
        if job is None:
            raise NotFoundError("There is no such job.")
        if job.state is JobState.CANCELED or (job.state is JobState.RUNNING and job.cancel_requested):
            return job
        if job.state.terminal:
            raise ConflictError(f"The job has {job.state}; it cannot be canceled any more.", extra={"job_id": job_id})
        job = replace(job, cancel_requested=True, canceled_by=by, cancel_reason=reason)
        transaction.change(
            "UPDATE jobs SET cancel_requested = 1, canceled_by = ?, cancel_reason = ? WHERE id = ?", by, reason, job_id
        )
        if job.state is JobState.RUNNING:
            return job
        return self._end_idle(transaction, job, JobState.CANCELED, canceled_message(reason), envelope)

    # Ends

    def _end_idle(self, transaction: Transaction, job: Job, state: JobState, message: str, envelope: Envelope) -> Job:
        """End a job that nobody runs."""
        result = envelope(replace(job, state=state), message)
        event = Event(job.id, job.last_event + 1, TERMINAL_EVENTS[state], None, self._no_earlier(job), result)
        code = CANCELED if state is JobState.CANCELED else INTERRUPTED
        return self._end(transaction, job, Ending(state, result, message, code, None, [event]))

    def _end(self, transaction: Transaction, job: Job, ending: Ending) -> Job:
        check_numbers(ending.events, job.last_event, ending.state)
        first, last = record(
            transaction, ending.events, first=job.first_event, last=job.last_event, most=self._max_events
        )
        taken = ending.execution_time
        return moved(
            transaction,
            job,
            ending.state,
            owner=None,
            losses=job.losses,
            result=ending.result,
            error=ending.error,
            error_code=ending.error_code,
            execution_time=None if taken is None else max(taken, 0.0),
            completed_at=self._no_earlier(job),
            first_event=first,
            last_event=last,
            progress=progress_in(ending.events) or job.progress,
        )

    def _release(self, transaction: Transaction, job: Job, due_at: float, events: Sequence[Event]) -> Job:
        """Make a running job pending."""
        check_numbers(events, job.last_event)
        first, last = record(transaction, events, first=job.first_event, last=job.last_event, most=self._max_events)
        job = moved(
            transaction,
            job,
            JobState.PENDING,
            delayed=due_at > self._clock(),
            owner=None,
            losses=job.losses,
            failures=job.failures,
            due_at=due_at,
            first_event=first,
            last_event=last,
            progress=progress_in(events) or job.progress,
        )
        self._pending(transaction, job)
        return job

    def _pending(self, transaction: Transaction, job: Job) -> None:
        if self._on_pending is not None:
            self._on_pending(transaction, job.id, job.priority, job.due_at)

    def _no_earlier(self, job: Job) -> float:
        """Return the time, or when the job began where the clock was set back: no duration is negative."""
        return max(self._clock(), job.started_at or job.created_at, job.created_at)


def _running(job: Job) -> Job:
    if job.state is not JobState.RUNNING:
        raise StaleAttemptError(job.id, job.attempt)
    return job
