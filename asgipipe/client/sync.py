"""The client of a running deployment, for programs that wait."""

import threading
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

import httpx

from asgipipe.client.base import DIRECT, BaseClient, Options, httpx_timeout
from asgipipe.client.calls import AUTOMATIC, Calls, IdempotencyKey, Parameters
from asgipipe.client.effects import Effect, Flow, Give, Head, Outcome, Pause, Read, Running, Send, Stream
from asgipipe.client.effects import T as V
from asgipipe.client.following import Follower
from asgipipe.client.models import (
    Event,
    Health,
    Info,
    Invocation,
    Job,
    JSONObject,
    Progress,
    RecordedRun,
    RunSummary,
    T,
)
from asgipipe.jobs.states import JobState
from asgipipe.pipelines.pipeline import Pipeline
from asgipipe.settings import CaptureLike


class ClientOptions(Options, total=False):
    """The keyword arguments of the client that have nothing to do with types."""

    http: httpx.Client | None


class _Wire:
    """Carries out the effects of one flow; at most one answer is open."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def perform(self, effect: Effect) -> Outcome:
        match effect:
            case Send():
                return self._send(effect)
            case Read():
                return next(self._pieces, None)
            case Pause():
                self.close()
                time.sleep(effect.seconds)
                return None

    def _send(self, effect: Send) -> Head:
        self.close()
        timeout, headers = httpx_timeout(effect.timeout), dict(effect.headers)
        request = self._http.build_request(
            effect.method, effect.url, headers=headers, content=effect.body, timeout=timeout
        )
        self._answer = self._http.send(request, stream=True, follow_redirects=False)
        self._pieces = self._answer.iter_bytes()
        return Head(self._answer.status_code, dict(self._answer.headers))

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
            self._pieces = iter(())


class Driver:
    """Runs flows. Without an `http` it makes one when it is first needed, and closes it."""

    def __init__(self, http: httpx.Client | None = None) -> None:
        self._http = http
        self._own = http is None
        self._making = threading.Lock()

    def run(self, flow: Flow[V]) -> V:
        running = Running(flow)
        for _ in self._values(running):
            pass
        return running.result

    def iterate(self, flow: Stream[V]) -> Generator[V, None, None]:
        return self._values(Running(flow))

    def _values(self, running: Running[V]) -> Generator[V, None, None]:
        with self._making:
            if self._http is None:
                self._http = httpx.Client(mounts=DIRECT)
        with closing(running), closing(_Wire(self._http)) as wire:
            while (effect := running.step()) is not None:
                if isinstance(effect, Give):
                    yield effect.value
                    continue
                try:
                    running.outcome = wire.perform(effect)
                except httpx.RequestError as error:
                    running.error = error

    def close(self) -> None:
        if self._own and self._http is not None:
            self._http.close()


class DeploymentClient(BaseClient[T]):
    __doc__ = BaseClient.__doc__

    @overload
    def __init__(self: "DeploymentClient[JSONObject]", url: str, **options: Unpack[ClientOptions]) -> None: ...
    @overload
    def __init__(self, url: str, *, output_type: type[T], **options: Unpack[ClientOptions]) -> None: ...
    @overload
    def __init__(
        self,
        url: str,
        *,
        pipeline: Pipeline[..., Coroutine[Any, Any, T]],
        **options: Unpack[ClientOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "DeploymentClient[str]",
        url: str,
        *,
        pipeline: Pipeline[..., Iterator[str] | AsyncIterator[str]],
        **options: Unpack[ClientOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "DeploymentClient[list[V]]",
        url: str,
        *,
        pipeline: Pipeline[..., Iterator[V] | AsyncIterator[V]],
        **options: Unpack[ClientOptions],
    ) -> None: ...
    @overload
    def __init__(self, url: str, *, pipeline: Pipeline[..., T], **options: Unpack[ClientOptions]) -> None: ...
    def __init__(
        self,
        url: str,
        *,
        pipeline: Pipeline[..., Any] | None = None,
        output_type: object | None = None,
        http: httpx.Client | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(url, pipeline=pipeline, output_type=output_type, **options)
        self._driver = Driver(http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; streams that are open break off."""
        self._driver.close()

    # Runs

    def invoke(
        self,
        parameters: Parameters | None = None,
        /,
        *,
        run_name: str | None = None,
        timeout: float | None = None,
        capture_override: CaptureLike | None = None,
        idempotency_key: IdempotencyKey = AUTOMATIC,
        raise_on_failure: bool = True,
        **named: object,
    ) -> Invocation[T]:
        """Run the pipeline and return what came of it.

        Parameters are given by name, in a mapping or model, or both. `timeout` is the run's own, in seconds.
        `idempotency_key` is made for the call unless one is given; without one (None), nothing is sent twice. Raises
        InvocationError when the run failed, unless `raise_on_failure` is False.
        """
        return self._driver.run(
            self._calls.invoke(
                parameters,
                named,
                run_name=run_name,
                timeout=timeout,
                capture_override=capture_override,
                idempotency_key=idempotency_key,
                raise_on_failure=raise_on_failure,
            )
        )

    def submit(
        self,
        parameters: Parameters | None = None,
        /,
        *,
        run_name: str | None = None,
        timeout: float | None = None,
        capture_override: CaptureLike | None = None,
        idempotency_key: IdempotencyKey = AUTOMATIC,
        priority: int | None = None,
        delay: float | None = None,
        max_attempts: int | None = None,
        **named: object,
    ) -> "JobHandle[T]":
        """Have a run accepted as a job, and return once it is durable. `delay` is in seconds."""
        job_id = self._driver.run(
            self._calls.submit(
                parameters,
                named,
                run_name=run_name,
                timeout=timeout,
                capture_override=capture_override,
                idempotency_key=idempotency_key,
                priority=priority,
                delay=delay,
                max_attempts=max_attempts,
            )
        )
        return self.job(job_id)

    def stream(
        self,
        parameters: Parameters | None = None,
        /,
        *,
        run_name: str | None = None,
        timeout: float | None = None,
        capture_override: CaptureLike | None = None,
        idempotency_key: IdempotencyKey = AUTOMATIC,
        **named: object,
    ) -> "EventStream[T]":
        """Run the pipeline and return its events; whoever closes the stream before its end cancels the run."""
        follower = self._calls.stream(
            parameters,
            named,
            run_name=run_name,
            timeout=timeout,
            capture_override=capture_override,
            idempotency_key=idempotency_key,
        )
        return EventStream(self._driver, self._calls, follower)

    # Jobs and recorded runs

    def job(self, job_id: str) -> "JobHandle[T]":
        """Return a handle; nothing is asked yet."""
        return JobHandle(self._driver, self._calls, job_id)

    def jobs(self, *, status: JobState | str | None = None, limit: int | None = None) -> Iterator[Job[T]]:
        """Yield jobs, newest first, asking for them page by page."""
        return self._driver.iterate(self._calls.jobs(status, limit))

    def runs(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int | None = None
    ) -> Iterator[RunSummary]:
        """Yield recorded runs, newest first, asking for them page by page."""
        return self._driver.iterate(self._calls.runs(status, pipeline, limit))

    def run(self, run_id: str) -> RecordedRun:
        """Return a recorded run, with its first 1000 steps and log records."""
        return self._driver.run(self._calls.run(run_id))

    # The deployment

    def info(self) -> Info:
        return self._driver.run(self._calls.info())

    def health(self) -> Health:
        """Raises BusyError when the deployment says that it is not well."""
        return self._driver.run(self._calls.health())

    def ready(self) -> bool:
        """Return False while the deployment starts or stops; raises UnreachableError when it is not there."""
        return self._driver.run(self._calls.ready())

    def status(self) -> dict[str, Any]:
        """Return the settings in force."""
        return self._driver.run(self._calls.status())

    def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return self._driver.run(self._calls.metrics())


class JobHandle(Generic[T]):
    """A job of a deployment; every method asks the deployment anew."""

    def __init__(self, driver: Driver, calls: Calls[T], job_id: str) -> None:
        self._driver = driver
        self._calls = calls
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"<job {self.job_id} of {self._calls.caller.root}>"

    def show(self) -> Job[T]:
        """Return the job as it is now."""
        return self._driver.run(self._calls.job(self.job_id))

    def status(self) -> JobState:
        return self.show().status

    def progress(self) -> Progress | None:
        """Return how far the run has last said it is."""
        return self.show().progress

    def wait(self, timeout: float | None = None) -> Job[T]:
        """Return the job when it has ended, however. Raises AnswerTimeoutError after `timeout` seconds."""
        return self._driver.run(self._calls.wait(self.job_id, timeout))

    def result(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> Invocation[T]:
        """Wait for the end of the job, and return what came of it.

        Raises InvocationError when it failed or was canceled, AnswerTimeoutError after `timeout` seconds.
        """
        return self._driver.run(self._calls.result(self.job_id, timeout, raise_on_failure=raise_on_failure))

    def stream(self, *, after: int = 0) -> "EventStream[T]":
        """Return the events after number `after`, those of the past included, until the last one."""
        return EventStream(self._driver, self._calls, self._calls.follow(self.job_id, after))

    def cancel(self, reason: str | None = None) -> JobState:
        """Ask the job to end, and return its status now. Raises ConflictRefusedError when it has ended otherwise."""
        return self._driver.run(self._calls.cancel(self.job_id, reason))


class EventStream(Generic[T]):
    """The events of a job, each once, also where the connection was lost in between. Close it, or use `with`."""

    def __init__(self, driver: Driver, calls: Calls[T], follower: Follower[Event]) -> None:
        self._driver = driver
        self._calls = calls
        self._follower = follower
        self._events = driver.iterate(follower.events())

    @property
    def job_id(self) -> str:
        """The id of the job; empty before the first event of a run that the stream itself began."""
        return self._follower.job_id

    @property
    def last_event_id(self) -> int:
        """The number of the last event that was given."""
        return self._follower.last

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def result(self, *, raise_on_failure: bool = True) -> Invocation[T]:
        """Read on to the end, and return what came of the job. Raises InvocationError when it failed."""
        for _ in self:
            pass
        return self._driver.run(self._calls.outcome(self._follower, raise_on_failure=raise_on_failure))

    def close(self) -> None:
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
