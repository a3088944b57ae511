"""The client of a running deployment, for programs that await: the same calls as in `sync.py`."""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

import anyio
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


class AsyncClientOptions(Options, total=False):
    """The keyword arguments of the client that have nothing to do with types."""

    http: httpx.AsyncClient | None


class _Wire:
    """Carries out the effects of one flow; at most one answer is open."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def perform(self, effect: Effect) -> Outcome:
        match effect:
            case Send():
                return await self._send(effect)
            case Read():
                return None if self._pieces is None else await anext(self._pieces, None)
            case Pause():
                await self.aclose()
                await anyio.sleep(effect.seconds)
                return None

    async def _send(self, effect: Send) -> Head:
        await self.aclose()
        timeout, headers = httpx_timeout(effect.timeout), dict(effect.headers)
        request = self._http.build_request(
            effect.method, effect.url, headers=headers, content=effect.body, timeout=timeout
        )
        self._answer = await self._http.send(request, stream=True, follow_redirects=False)
        self._pieces = self._answer.aiter_bytes()
        return Head(self._answer.status_code, dict(self._answer.headers))

    async def aclose(self) -> None:
        answer, self._answer, self._pieces = self._answer, None, None
        if answer is not None:
            await answer.aclose()


class AsyncDriver:
    """Runs flows. Without an `http` it makes one when it is first needed, and closes it."""

    def __init__(self, http: httpx.AsyncClient | None = None) -> None:
        self._http = http
        self._own = http is None

    async def run(self, flow: Flow[V]) -> V:
        running = Running(flow)
        async with aclosing(self._values(running)) as values:
            async for _ in values:
                pass
        return running.result

    def iterate(self, flow: Stream[V]) -> AsyncGenerator[V, None]:
        return self._values(Running(flow))

    async def _values(self, running: Running[V]) -> AsyncGenerator[V, None]:
        if self._http is None:
            self._http = httpx.AsyncClient(mounts=DIRECT)
        with closing(running):
            async with aclosing(_Wire(self._http)) as wire:
                while (effect := running.step()) is not None:
                    if isinstance(effect, Give):
                        yield effect.value
                        continue
                    try:
                        running.outcome = await wire.perform(effect)
                    except httpx.RequestError as error:
                        running.error = error

    async def aclose(self) -> None:
        if self._own and self._http is not None:
            await self._http.aclose()


class AsyncDeploymentClient(BaseClient[T]):
    __doc__ = BaseClient.__doc__

    @overload
    def __init__(
        self: "AsyncDeploymentClient[JSONObject]",
        url: str,
        **options: Unpack[AsyncClientOptions],
    ) -> None: ...
    @overload
    def __init__(self, url: str, *, output_type: type[T], **options: Unpack[AsyncClientOptions]) -> None: ...
    @overload
    def __init__(
        self,
        url: str,
        *,
        pipeline: Pipeline[..., Coroutine[Any, Any, T]],
        **options: Unpack[AsyncClientOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncDeploymentClient[str]",
        url: str,
        *,
        pipeline: Pipeline[..., Iterator[str] | AsyncIterator[str]],
        **options: Unpack[AsyncClientOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "AsyncDeploymentClient[list[V]]",
        url: str,
        *,
        pipeline: Pipeline[..., Iterator[V] | AsyncIterator[V]],
        **options: Unpack[AsyncClientOptions],
    ) -> None: ...
    @overload
    def __init__(self, url: str, *, pipeline: Pipeline[..., T], **options: Unpack[AsyncClientOptions]) -> None: ...
    def __init__(
        self,
        url: str,
        *,
        pipeline: Pipeline[..., Any] | None = None,
        output_type: object | None = None,
        http: httpx.AsyncClient | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(url, pipeline=pipeline, output_type=output_type, **options)
        self._driver = AsyncDriver(http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._driver.aclose()

    # Runs

    async def invoke(
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
        return await self._driver.run(
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

    async def submit(
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
    ) -> "AsyncJobHandle[T]":
        job_id = await self._driver.run(
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
    ) -> "AsyncEventStream[T]":
        follower = self._calls.stream(
            parameters,
            named,
            run_name=run_name,
            timeout=timeout,
            capture_override=capture_override,
            idempotency_key=idempotency_key,
        )
        return AsyncEventStream(self._driver, self._calls, follower)

    # Jobs and recorded runs

    def job(self, job_id: str) -> "AsyncJobHandle[T]":
        return AsyncJobHandle(self._driver, self._calls, job_id)

    def jobs(self, *, status: JobState | str | None = None, limit: int | None = None) -> AsyncIterator[Job[T]]:
        return self._driver.iterate(self._calls.jobs(status, limit))

    def runs(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int | None = None
    ) -> AsyncIterator[RunSummary]:
        return self._driver.iterate(self._calls.runs(status, pipeline, limit))

    async def run(self, run_id: str) -> RecordedRun:
        return await self._driver.run(self._calls.run(run_id))

    # The deployment

    async def info(self) -> Info:
        return await self._driver.run(self._calls.info())

    async def health(self) -> Health:
        return await self._driver.run(self._calls.health())

    async def ready(self) -> bool:
        return await self._driver.run(self._calls.ready())

    async def status(self) -> dict[str, Any]:
        return await self._driver.run(self._calls.status())

    async def metrics(self) -> str:
        return await self._driver.run(self._calls.metrics())


class AsyncJobHandle(Generic[T]):
    """A job of a deployment; every method asks the deployment anew."""

    def __init__(self, driver: AsyncDriver, calls: Calls[T], job_id: str) -> None:
        self._driver = driver
        self._calls = calls
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"<job {self.job_id} of {self._calls.caller.root}>"

    async def show(self) -> Job[T]:
        return await self._driver.run(self._calls.job(self.job_id))

    async def status(self) -> JobState:
        return (await self.show()).status

    async def progress(self) -> Progress | None:
        return (await self.show()).progress

    async def wait(self, timeout: float | None = None) -> Job[T]:
        return await self._driver.run(self._calls.wait(self.job_id, timeout))

    async def result(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> Invocation[T]:
        return await self._driver.run(self._calls.result(self.job_id, timeout, raise_on_failure=raise_on_failure))

    def stream(self, *, after: int = 0) -> "AsyncEventStream[T]":
        return AsyncEventStream(self._driver, self._calls, self._calls.follow(self.job_id, after))

    async def cancel(self, reason: str | None = None) -> JobState:
        return await self._driver.run(self._calls.cancel(self.job_id, reason))


class AsyncEventStream(Generic[T]):
    """The events of a job, each once, also where the connection was lost in between. Close it, or use `async with`."""

    def __init__(self, driver: AsyncDriver, calls: Calls[T], follower: Follower[Event]) -> None:
        self._driver = driver
        self._calls = calls
        self._follower = follower
        self._events = driver.iterate(follower.events())

    @property
    def job_id(self) -> str:
        return self._follower.job_id

    @property
    def last_event_id(self) -> int:
        return self._follower.last

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def result(self, *, raise_on_failure: bool = True) -> Invocation[T]:
        async for _ in self:
            pass
        return await self._driver.run(self._calls.outcome(self._follower, raise_on_failure=raise_on_failure))

    async def aclose(self) -> None:
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
