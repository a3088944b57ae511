"""The contract of a deployment service, and the one that runs pipelines in this process."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
from typing import cast

from pydantic import BaseModel, ConfigDict

from asgipipe.errors import StartupError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.local import Jobs
from asgipipe.pipelines.context import Environment, EventListener, Run, Status
from asgipipe.pipelines.deadlines import Deadlines
from asgipipe.pipelines.execution import TIMEOUT, Execution, message_of, traceback_of
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.pipelines.memory import StepMemory
from asgipipe.pipelines.pipeline import Pipeline
from asgipipe.service.envelope import EnvelopeWriter
from asgipipe.service.hooks import call_hook, load_hook, require_arguments, with_argument
from asgipipe.service.metrics import Metrics, RunStatus
from asgipipe.settings import DeploymentSettings
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.stores.registry import database
from asgipipe.tracking.capture import RunCapture
from asgipipe.tracking.recorder import Recorder

logger = logging.getLogger("asgipipe")

HealthCheck = Callable[[], object]
"""Says that all is well by returning None or True; anything else it returns, or raises, is the reason why not."""

_NO_LIMIT = float("inf")
_METRIC_STATUS: dict[Status, RunStatus] = {
    Status.FAILED: "failed",
    Status.TIMED_OUT: "failed",
    Status.CANCELED: "canceled",
}


class DeploymentResponse(BaseModel):
    """The public record of a deployment; it holds no secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    snapshot_id: str
    snapshot_name: str | None = None
    pipeline_name: str
    auth_enabled: bool


class BaseDeploymentService(ABC):
    """Runs the pipeline of one deployment in this process.

    A service of your own (`deployment_service_class`) subclasses this, or DeploymentService below to change a part of
    what it does. All methods are called on the event loop of the deployment. `options` are the
    `deployment_service_kwargs`.

    `jobs` are the runs that are accepted now and executed later, by `invoke`; `store` is the database of everything
    that is kept. Both are started and stopped with the deployment.
    """

    def __init__(
        self,
        pipeline: Pipeline[..., object],
        settings: DeploymentSettings,
        deployment: DeploymentResponse,
        *,
        executor: ThreadExecutor,
        metrics: Metrics,
        **options: object,
    ) -> None:
        if options:
            raise TypeError(f"{type(self).__name__} takes no option {next(iter(options))!r}")
        self.pipeline = pipeline
        self.settings = settings
        self.deployment = deployment
        self.executor = executor
        self.metrics = metrics
        self.envelopes = EnvelopeWriter(deployment, error_messages=settings.error_messages)
        self.store = LazyDatabase(partial(database, settings.store_url))
        self.jobs = Jobs(
            settings,
            pipeline.contract,
            self.store,
            deployment=deployment.id,
            invoke=self.invoke,
            cancel=self.cancel,
            envelopes=self.envelopes,
        )
        self.started_at = time()
        self.health_checks: list[HealthCheck] = []

    @abstractmethod
    async def start(self) -> None:
        """Make ready for the first run. Raises StartupError; the process then does not serve."""

    @abstractmethod
    async def stop(self) -> None:
        """Release what `start` took; called once, also when a later part of the start failed."""

    @abstractmethod
    async def invoke(
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
    ) -> Run:
        """Run the pipeline once with validated parameters and return what came of it.

        `timeout` is in seconds and can only shorten `request_timeout`, or, in the `background`, `job_timeout`. Steps
        that `memory` knows are not run again. `capture` is the request's `capture_override`, as JSON; `attempt` is
        recorded. Raises nothing of the pipeline's: a run that fails is returned too.
        """

    @abstractmethod
    def cancel(self, run_id: str, reason: str) -> bool:
        """Cancel a run at its next await or step boundary; return False when no such run is in flight."""

    @abstractmethod
    def cancel_all(self, reason: str) -> None:
        """Cancel every run in flight."""

    async def health(self) -> str | None:
        """Return why the service is not healthy, or None: the first of `health_checks` that complains."""
        for check in self.health_checks:
            try:
                verdict = check()
                if asyncio.iscoroutine(verdict):
                    verdict = await cast(Awaitable[object], verdict)
            except Exception as error:  # boundary: a check may raise anything
                logger.warning("health check %r raised %s", check, message_of(error, 500))
                return "a health check failed"
            if verdict is not None and verdict is not True:
                return verdict if isinstance(verdict, str) else "a health check failed"
        return None


class DeploymentService(BaseDeploymentService):
    """Runs the pipeline in this process."""

    def __init__(
        self,
        pipeline: Pipeline[..., object],
        settings: DeploymentSettings,
        deployment: DeploymentResponse,
        *,
        executor: ThreadExecutor,
        metrics: Metrics,
        **options: object,
    ) -> None:
        super().__init__(pipeline, settings, deployment, executor=executor, metrics=metrics, **options)
        self._execute = Execution(pipeline, self._abandoned_run_ended).execute
        given = pipeline.options
        self._on_init = load_hook(given.on_init, "on_init")
        require_arguments(self._on_init, "on_init", given.on_init_kwargs)
        self._on_cleanup = load_hook(given.on_cleanup, "on_cleanup")
        require_arguments(self._on_cleanup, "on_cleanup", given.on_cleanup_kwargs, argument=True)
        self._runs: dict[str, Run] = {}
        self._environment = Environment(executor, deployment)
        self._recorder = Recorder(
            settings,
            self._environment,
            self.store,
            deployment=deployment.id,
            pipeline=pipeline.name,
            metadata={
                "deployment_name": deployment.name,
                "snapshot_id": deployment.snapshot_id,
                "snapshot_name": deployment.snapshot_name,
            },
        )
        self._observes = self._recorder.plan is not None
        self._deadlines = Deadlines(self._runs.values, _expire)
        self._timeout = _NO_LIMIT if settings.request_timeout is None else settings.request_timeout
        self._job_timeout = _NO_LIMIT if settings.job_timeout is None else settings.job_timeout
        self._initialised = False
        self._second = 0
        self._second_name = ""

    async def start(self) -> None:
        self.started_at = time()
        self._recorder.start()
        if self._on_init is not None:
            self._environment.state = await call_hook(
                self._on_init,
                (),
                self.pipeline.options.on_init_kwargs,
                setting="on_init",
                timeout=self.settings.hook_timeout,
                executor=self.executor,
            )
        self._initialised = True

    async def stop(self) -> None:
        self.cancel_all("the deployment is stopping")
        self._deadlines.close()
        await self._clean_up()
        await self._recorder.stop()

    async def _clean_up(self) -> None:
        if self._on_cleanup is None or not self._initialised:
            return
        self._initialised = False
        state, self._environment.state = self._environment.state, None
        arguments, kwargs = with_argument(self._on_cleanup, state, self.pipeline.options.on_cleanup_kwargs)
        try:
            await call_hook(
                self._on_cleanup,
                arguments,
                kwargs,
                setting="on_cleanup",
                timeout=self.settings.hook_timeout,
                executor=self.executor,
            )
        except StartupError as error:
            logger.error("%s", error)

    async def invoke(
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
    ) -> Run:
        now = time()
        run = Run(run_id or uuid7(), run_name or self._default_name(now), parameters, self._environment, listener)
        if memory is not None:
            run.memory = memory
        started = monotonic()
        captured: RunCapture | None = None
        if self._observes or capture is not None or listener is not None:
            captured = self._recorder.begin(run, now - started, capture, attempt=attempt, repeatable=background)
        self._runs[run.id] = run
        longest = self._job_timeout if background else self._timeout
        limit = longest if timeout is None else min(timeout, longest)
        if limit < _NO_LIMIT:
            run.timeout = limit
            run.deadline = started + limit
            if run.deadline < self._deadlines.next:
                self._deadlines.arm(run.deadline)
        self.metrics.run_started()
        try:
            await self._execute(run)
        except asyncio.CancelledError:
            run.status = Status.CANCELED
            raise
        finally:
            seconds = run.execution_time = monotonic() - started
            if not run.abandoned and self._runs.get(run.id) is run:  # a job's next attempt has the same id
                del self._runs[run.id]
            if run.outputs_json is not None:
                self.metrics.run_finished("completed", seconds, now + seconds)
            else:
                self.metrics.run_finished(_METRIC_STATUS[run.status], seconds, now + seconds)
                self._log(run)
            written = None if captured is None else self._recorder.end(captured, seconds)
        if written is not None:
            await asyncio.wrap_future(written)
        return run

    def cancel(self, run_id: str, reason: str) -> bool:
        run = self._runs.get(run_id)
        if run is not None:
            run.cancel(reason)
        return run is not None

    def cancel_all(self, reason: str) -> None:
        for run in tuple(self._runs.values()):
            run.cancel(reason)

    def _abandoned_run_ended(self, run: Run) -> None:
        run.abandoned = False
        if self._runs.get(run.id) is run:
            del self._runs[run.id]
        if run.on_thread_end is not None:
            run.on_thread_end()

    def _default_name(self, now: float) -> str:
        """`<pipeline>-<UTC time>`; the text of a second is made once."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_name = f"{self.pipeline.name}-{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._second_name}.{int((now - second) * 1_000_000):06d}Z"

    def _log(self, run: Run) -> None:
        # The id is in the message too: a host's own log format knows nothing of run ids.
        name, extra = self.pipeline.name, {"run_id": run.id}
        if run.status is Status.FAILED and run.error is not None:
            logger.error("run %s of %s failed\n%s", run.id, name, traceback_of(run.error), extra=extra)
        else:
            logger.warning("run %s of %s was not finished: %s", run.id, name, message_of(run.error), extra=extra)


def _expire(run: Run) -> None:
    run.cancel(TIMEOUT)
