"""A deployment put together: pipeline, settings, service, app runner, and the one ASGI application they make."""

import asyncio
import hashlib
import inspect
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

from asgipipe.errors import DefinitionError, StartupError, UserError
from asgipipe.http.application import Application
from asgipipe.http.drain import noticing_signals
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.identifiers import derived
from asgipipe.pipelines.callables import describe, underlying
from asgipipe.pipelines.execution import summary_of
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.pipelines.pipeline import Pipeline, SettingsLike, as_pipeline
from asgipipe.runners.base import BaseDeploymentAppRunner
from asgipipe.runners.building import building
from asgipipe.runners.registry import load_app_runner
from asgipipe.service.deployment import BaseDeploymentService, DeploymentResponse, DeploymentService
from asgipipe.service.hooks import Hook, call_hook, load_hook, require_arguments, takes
from asgipipe.service.metrics import Metrics
from asgipipe.settings import DeploymentSettings, Layer, environment_layer, python_layer, resolve
from asgipipe.settings.keys import plain
from asgipipe.settings.references import load
from asgipipe.settings.references import name as reference_name

BoundHook = Callable[[], Awaitable[object]]

logger = logging.getLogger("asgipipe")


class Deployment:
    """Everything that serves one pipeline in this process.

    `target` is a pipeline or any callable, `settings` lie over those of its decorator; the environment (`ASGIPIPE_*`)
    lies over both, and `layers` replace it where the caller has read more places. `keys` are used instead of a
    generated key. `source_root` is where relative paths in the settings start; `metrics_directory` is shared by the
    workers of a server, where no setting names another. `flavor` is the app runner where no setting names one: that of
    the host's framework, say.

    Nothing is started and no thread, lock or file is opened before `start`, so it may be made before a fork. Raises
    SettingsError, SourceError or DefinitionError for everything that cannot be served.
    """

    drains_on_signal = True
    """Whether it drains by itself when the process is told to stop; a server that sees to that sets it to False."""

    def __init__(
        self,
        target: object,
        settings: SettingsLike | None = None,
        *,
        name: str | None = None,
        layers: Sequence[Layer] | None = None,
        keys: tuple[str, ...] = (),
        source_root: Path | None = None,
        metrics_directory: Path | None = None,
        flavor: str | None = None,
    ) -> None:
        self.pipeline = as_pipeline(target)
        if settings is not None:
            self.pipeline = self.pipeline.with_options(settings=settings)
        self.settings = resolve_settings(self.pipeline, layers, flavor)
        self.name = name or self.pipeline.name
        self.auth_keys = plain(self.settings.auth_key) or keys
        if not self.auth_keys and self.settings.generate_auth_key:
            self.auth_keys = (secrets.token_urlsafe(32),)
        executor = ThreadExecutor(self.settings.thread_pool_size, name=f"asgipipe-{self.name}")
        self.executor = executor
        given = self.settings.metrics_directory
        self.metrics = Metrics(self.name, Path(given) if given else metrics_directory)
        self.service = self._service()
        jobs = self.service.jobs
        self.lifecycle = Lifecycle(
            self._resources, self.service.cancel_all, on_drain=jobs.drain, on_abandon=jobs.hand_back
        )
        jobs.on_begin, jobs.on_end = self.lifecycle.job_began, self.lifecycle.job_ended
        self.app_runner = self._app_runner(source_root)
        self._startup_hook = self._hook("startup_hook")
        self._shutdown_hook = self._hook("shutdown_hook")
        self.asgi_app = Application(self.app_runner.build(), self.settings, self.lifecycle, self.metrics)

    @property
    def deployment(self) -> DeploymentResponse:
        return self.service.deployment

    async def start(self) -> None:
        """Start for a host that does not send lifespan events; each `start` needs its `stop`.

        Raises StartupError when a hook fails.
        """
        await self.lifecycle.start()

    async def stop(self) -> None:
        await self.lifecycle.stop()

    def _service(self) -> BaseDeploymentService:
        service_class = load_service(self.settings.deployment_service_class)
        try:
            return service_class(
                self.pipeline,
                self.settings,
                self._record(),
                executor=self.executor,
                metrics=self.metrics,
                **self.settings.deployment_service_kwargs,
            )
        except UserError:
            raise
        except Exception as error:  # boundary: a service of the user's may raise anything
            place = f"deployment_service_class {service_class.__name__}"
            raise DefinitionError(f"{place} raised {summary_of(error)}") from error

    def _record(self) -> DeploymentResponse:
        return DeploymentResponse(
            id=derived("deployment", self.name),
            name=self.name,
            snapshot_id=derived("snapshot", self.pipeline.name, fingerprint(self.pipeline)),
            pipeline_name=self.pipeline.name,
            auth_enabled=bool(self.auth_keys),
        )

    def _app_runner(self, source_root: Path | None) -> BaseDeploymentAppRunner:
        runner_class = load_app_runner(self.settings.deployment_app_runner_flavor)
        with building(f"deployment_app_runner_flavor {runner_class.__name__}"):
            return runner_class(
                self.service,
                self.lifecycle,
                keys=self.auth_keys,
                source_root=source_root,
                **self.settings.deployment_app_runner_kwargs,
            )

    def _hook(self, setting: str) -> BoundHook | None:
        """Return the hook as a coroutine function without arguments, with its kwargs and what it asks for bound."""
        hook = load_hook(cast("Hook | str | None", getattr(self.settings, setting)), setting)
        if hook is None:
            return None
        kwargs = dict(cast("Mapping[str, object]", getattr(self.settings, f"{setting}_kwargs")))
        if takes(hook, "app_runner"):
            if "app_runner" in kwargs:
                raise DefinitionError(f"{setting}_kwargs: 'app_runner' is given by us; take it out")
            kwargs["app_runner"] = self.app_runner
        require_arguments(hook, setting, kwargs)
        return partial(
            call_hook, hook, (), kwargs, setting=setting, timeout=self.settings.hook_timeout, executor=self.executor
        )

    @asynccontextmanager
    async def _resources(self) -> AsyncIterator[Mapping[str, object] | None]:
        """Open everything in order; whatever was opened is closed in reverse, also when a later part fails."""
        async with AsyncExitStack() as stack:
            try:
                state = await self._open(stack)
            except (UserError, asyncio.CancelledError):
                raise
            except BaseException as error:  # boundary: a lifespan or service of the user's may raise anything
                raise StartupError(f"the deployment {self.name} did not start: {summary_of(error)}") from error
            yield state

    async def _open(self, stack: AsyncExitStack) -> Mapping[str, object] | None:
        if self.drains_on_signal:
            stack.enter_context(noticing_signals(self.lifecycle, self.settings.drain_timeout))
        self.executor.start()
        stack.callback(self.executor.stop)
        self.metrics.open()
        stack.callback(self.metrics.close)
        stack.push_async_callback(self.service.store.close)
        state = await stack.enter_async_context(self.app_runner.lifespan())
        stack.push_async_callback(self.service.stop)
        await self.service.start()
        if self._startup_hook is not None:
            await self._startup_hook()
        stack.push_async_callback(self._run_shutdown_hook)
        stack.push_async_callback(self.service.jobs.stop)
        await self.service.jobs.start()
        logger.info("deployment %s started in process %d", self.name, os.getpid())
        return state

    async def _run_shutdown_hook(self) -> None:
        if self._shutdown_hook is None:
            return
        try:
            await self._shutdown_hook()
        except StartupError as error:
            logger.error("%s", error)


def load_service(given: object) -> type[BaseDeploymentService]:
    """Return the class that `deployment_service_class` stands for, ours when it is None.

    Raises DefinitionError when it is found nowhere, or is none.
    """
    if given is None:
        return DeploymentService
    with building("deployment_service_class"):
        found = load(given)
        if inspect.isclass(found) and issubclass(found, BaseDeploymentService):
            return found
        raise DefinitionError(f"{reference_name(given)} is not a subclass of BaseDeploymentService")


def resolve_settings(
    pipeline: Pipeline[..., object], layers: Sequence[Layer] | None = None, flavor: str | None = None
) -> DeploymentSettings:
    """Return the settings of `pipeline` under `layers` (by default, the environment); the last layer is on top.

    `flavor` lies below all of them.
    """
    below = [] if flavor is None else [python_layer({"deployment_app_runner_flavor": flavor}, "the host's framework")]
    own = [python_layer(settings, origin) for origin, settings in pipeline.settings_layers]
    above = [environment_layer(os.environ)] if layers is None else layers
    return resolve([*below, *own, *above]).settings


def fingerprint(pipeline: Pipeline[..., object]) -> str:
    """Return the SHA-256 of the pipeline's source text, or of its name where there is no text."""
    try:
        text = inspect.getsource(underlying(pipeline.function))
    except (OSError, TypeError):
        text = describe(pipeline.function)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def asgi(target: object, settings: SettingsLike | None = None, *, name: str | None = None) -> Application:
    """Return the ASGI application that serves `target`: a pipeline, or any callable.

    `settings` lie over those of the pipeline's decorator, and the environment (`ASGIPIPE_*`) over both. Raises
    SettingsError, SourceError or DefinitionError for everything that cannot be served.
    """
    return Deployment(target, settings, name=name).asgi_app
