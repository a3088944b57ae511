"""One attempt at a job: from the moment it was claimed until what came of it is durable."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Protocol, TypeVar

import pydantic

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.memory import JobMemory
from asgipipe.jobs.recording import Recording
from asgipipe.jobs.records import (
    CANCELED,
    FAILED,
    PIPELINE_STARTED,
    RETRYING,
    TIMEOUT,
    Event,
    Job,
    JobOptions,
    canceled_message,
)
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore, StaleAttemptError
from asgipipe.pipelines.context import EventListener, Run, Status
from asgipipe.pipelines.execution import summary_of, traceback_of
from asgipipe.pipelines.memory import StepMemory

logger = logging.getLogger("asgipipe")

T = TypeVar("T")

INVALID_PARAMETERS = "invalid_parameters"

STOPPING = "the server is stopping"
_STALE = "another worker has the job"
_UNSAID = "no reason was given"
_MAX_DELAY = 300.0
"""Seconds, at most, before a job is run again after it failed."""
_PAUSES = (0.05, 2.0)
"""Seconds before the first and, at most, each later attempt to write down how a job ended."""
_MAX_PLACES = 5


class Invoke(Protocol):
    """Runs the pipeline once, as the `invoke` of a deployment service does."""

    def __call__(
        self,
        parameters: dict[str, object],
        *,
        run_id: str | None = None,
        run_name: str | None = None,
        timeout: float | None = None,
        listener: EventListener | None = None,
        memory: StepMemory | None = None,
        capture: bytes | None = None,
        background: bool = False,
        attempt: int = 1,
    ) -> Awaitable[Run]: ...


class Envelopes(Protocol):
    """Writes what a job ends with."""

    def write(self, run: Run) -> bytes:
        """Return the envelope of a run."""

    def message(self, run: Run) -> str:
        """Return the error that the envelope of a run which did not complete names."""

    def unfinished(self, job: Job, error: str, execution_time: float = 0.0) -> bytes:
        """Return the envelope of a job that ended without a run, or whose run is lost."""


@dataclass(frozen=True, slots=True)
class Means:
    """What attempts are made with; `validate` reads stored parameters as the pipeline takes them now.

    `requeued` is told when a job is pending again, and when it is due. `retry_delay` is in seconds.
    """

    store: JobStore
    hub: Hub
    invoke: Invoke
    cancel: Callable[[str, str], bool]
    envelopes: Envelopes
    validate: Callable[[bytes], dict[str, object]]
    requeued: Callable[[float], None]
    retry_delay: float
    resume: bool
    error_messages: bool = True
    clock: Callable[[], float] = time


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a job ends; `result` is the envelope."""

    state: JobState
    result: bytes
    error: str | None = None
    error_code: str | None = None
    execution_time: float | None = None


class Attempt:
    """Runs one claimed job. `run` is what came of it, once the pipeline has ended.

    It is `released` when what comes of it matters no more: the job was handed back, or has another worker.
    """

    def __init__(self, job: Job, means: Means) -> None:
        self.job = job
        self.run: Run | None = None
        self.released = False
        self._means = means
        self._options = _options(job)
        self._canceled = False
        self._cancel_reason: str | None = None
        self._begun = False
        self._recording = Recording(
            job,
            means.store,
            means.hub,
            asyncio.get_running_loop(),
            on_stale=self._drop,
            clock=means.clock,
            error_messages=means.error_messages,
        )

    def cancel(self, reason: str | None) -> None:
        """Cancel the run at its next await or step boundary, or before it begins."""
        if not self._canceled:
            self._canceled, self._cancel_reason = True, reason
            if self._begun:
                self._means.cancel(self.job.id, reason or _UNSAID)

    async def execute(self) -> None:
        """Run the job, and return when what came of it is durable, or matters no more."""
        try:
            ending = await self._ending()
            if ending.error_code == FAILED and self.job.failures < self._options.retries and not self.released:
                await self._retry(ending)
            elif not self.released:
                await self._finish(ending)
        except StaleAttemptError:
            self._drop()
        finally:
            self._recording.take()

    async def hand_back(self) -> None:
        """Make the job pending again for another worker, or the next start, and cancel its run.

        When the store cannot be reached, the job is taken over as soon as this process has ended.
        """
        if self.released:
            return
        self.released = True
        try:
            due_at = self._means.clock()
            events = self._recording.take()
            await self._means.store.put_back(self.job.id, self.job.attempt, due_at=due_at, failed=False, events=events)
            logger.info("job %s was handed back", self.job.id)
        except StaleAttemptError:
            logger.debug("job %s had ended", self.job.id)
        except (UnavailableError, StorageFullError) as error:
            logger.warning("job %s could not be handed back: %s", self.job.id, error)
        finally:
            self.cancel(STOPPING)

    def abandon(self) -> None:
        """Forget the attempt: the job is taken over by whoever finds that its worker is gone."""
        self._drop()

    def _drop(self) -> None:
        if not self.released:
            self.released = True
            logger.warning("job %s: attempt %d is not its owner any more", self.job.id, self.job.attempt)
        self.cancel(_STALE)

    # The run

    async def _ending(self) -> _Ending:
        """Run the pipeline, if it may be run, and say what came of it."""
        if self.job.cancel_requested:
            self.cancel(self.job.cancel_reason)
        try:
            memory = await self._memory()
            if self._canceled:
                return self._unfinished(JobState.CANCELED, canceled_message(self._cancel_reason), CANCELED)
            try:
                parameters = self._means.validate(self.job.parameters)
            except BaseException as error:  # boundary: validators of the user's may raise anything
                return self._unfinished(JobState.FAILED, self._refusal(error), INVALID_PARAMETERS)
            return self._judged(await self._invoke(parameters, memory))
        except (StaleAttemptError, asyncio.CancelledError):
            raise
        except BaseException as error:  # boundary: a service of the user's may raise anything
            logger.error("job %s: the service raised\n%s", self.job.id, traceback_of(error))
            return self._unfinished(JobState.FAILED, "the server failed to run the job", FAILED)

    async def _invoke(self, parameters: dict[str, object], memory: JobMemory | None) -> Run:
        job, options = self.job, self._options
        self._recording(PIPELINE_STARTED, None, {"attempt": job.attempt, "run_name": job.run_name})
        self._begun = True
        self.run = await self._means.invoke(
            parameters,
            run_id=job.id,
            run_name=job.run_name,
            timeout=options.timeout,
            listener=self._recording,
            memory=memory,
            capture=options.capture,
            background=True,
            attempt=job.attempt,
        )
        return self.run

    async def _memory(self) -> JobMemory | None:
        if not self._means.resume:
            return None
        kept = await self._persist(lambda: self._means.store.results(self.job.id)) if self.job.attempt > 1 else {}
        return JobMemory(kept, self._recording)

    def _judged(self, run: Run) -> _Ending:
        envelopes, seconds = self._means.envelopes, run.execution_time
        if run.outputs_json is not None:
            return _Ending(JobState.COMPLETED, envelopes.write(run), execution_time=seconds)
        if run.status is Status.CANCELED:
            message = canceled_message(self._cancel_reason if self._canceled else run.cancel_reason)
            result = envelopes.unfinished(self.job, message, seconds)
            return _Ending(JobState.CANCELED, result, message, CANCELED, seconds)
        code = TIMEOUT if run.status is Status.TIMED_OUT else FAILED
        return _Ending(JobState.FAILED, envelopes.write(run), envelopes.message(run), code, seconds)

    def _unfinished(self, state: JobState, message: str, code: str) -> _Ending:
        return _Ending(state, self._means.envelopes.unfinished(self.job, message), message, code)

    def _refusal(self, error: BaseException) -> str:
        message = "the pipeline does not accept the stored parameters any more"
        if not isinstance(error, pydantic.ValidationError):
            logger.error("job %s: its parameters cannot be read: %s", self.job.id, summary_of(error))
            return message
        found = error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_PLACES]
        return f"{message}: {', '.join('.'.join(map(str, one['loc'])) or one['type'] for one in found)}"

    # What came of it

    async def _finish(self, ending: _Ending) -> None:
        try:
            await self._persist(lambda: self._write(ending))
        except StaleAttemptError:
            raise
        except Exception:  # boundary: what the store refuses for what it is, such as a result of a gigabyte
            logger.exception("job %s: its result cannot be stored", self.job.id)
            refused = self._unfinished(JobState.FAILED, "the result could not be stored", FAILED)
            await self._persist(lambda: self._write(refused), whatever=True)

    async def _write(self, ending: _Ending) -> None:
        events = self._recording.take()
        events.append(self._recording.terminal(ending.state, ending.result))
        await self._means.store.finish(
            self.job.id,
            self.job.attempt,
            ending.state,
            result=ending.result,
            error=ending.error,
            error_code=ending.error_code,
            execution_time=ending.execution_time,
            events=events,
        )
        self._means.hub.published(self.job.id, events)

    async def _retry(self, ending: _Ending) -> None:
        """Make the job pending again; each failure doubles the time until it is due."""
        delay = min(self._means.retry_delay * 2.0 ** min(self.job.failures, 64), _MAX_DELAY)
        due_at = self._means.clock() + delay
        self._recording(RETRYING, None, {"attempt": self.job.attempt, "error": ending.error, "delay": delay})
        await self._recording.flush()  # with the results of steps that nobody waited for
        events: list[Event] = self._recording.take()
        store, job = self._means.store, self.job
        await self._persist(
            lambda: store.put_back(job.id, job.attempt, due_at=due_at, failed=True, events=events), whatever=True
        )
        self._means.hub.published(job.id, events)
        self._means.requeued(due_at)

    async def _persist(self, write: Callable[[], Awaitable[T]], *, whatever: bool = False) -> T:
        """Do what must be done in the store, again and again until it can be; `whatever` it raises."""
        pause, longest = _PAUSES
        while True:
            try:
                return await write()
            except StaleAttemptError:
                raise
            except Exception as error:  # boundary: what is not retried is raised
                if not whatever and not isinstance(error, UnavailableError | StorageFullError):
                    raise
                if pause == _PAUSES[0]:
                    logger.warning("job %s: the store refuses a change, which is tried again: %s", self.job.id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)


def _options(job: Job) -> JobOptions:
    try:
        return JobOptions.load(job.options)
    except (TypeError, ValueError):  # those of a later version
        logger.warning("job %s: its options cannot be read, so it has those of the default", job.id)
        return JobOptions()
