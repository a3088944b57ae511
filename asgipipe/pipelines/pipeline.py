"""Pipelines: the functions that are served."""

import contextlib
import inspect
import os
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel

from asgipipe import sources
from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import Kind, doc_of, kind_in_run, name_of
from asgipipe.pipelines.context import current
from asgipipe.pipelines.step import Step
from asgipipe.pipelines.stream import is_text
from asgipipe.settings import CaptureLike, DeploymentSettings

if TYPE_CHECKING:
    # What stands above this package is imported when it is called.
    from asgipipe.client.handle import DeploymentHandle
    from asgipipe.deployers.records import Snapshot
    from asgipipe.pipelines.contract import Contract
    from asgipipe.pipelines.graph import Graph
    from asgipipe.pipelines.outputs import OutputShape

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Hook = Callable[..., object]
SettingsLike = DeploymentSettings | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What `@pipeline` and `with_options` take; hooks and models may be import strings."""

    name: str | None = None
    on_init: Hook | str | None = None
    on_cleanup: Hook | str | None = None
    on_init_kwargs: Mapping[str, object] = field(default_factory=dict)
    on_cleanup_kwargs: Mapping[str, object] = field(default_factory=dict)
    blocking: bool = True
    input_model: type[BaseModel] | str | None = None
    output_model: type[BaseModel] | str | None = None


class Pipeline(Generic[P, R_co]):
    """A function that is served: decorated with `@pipeline`, or any callable wrapped as one.

    Called directly it is the plain function; called by another pipeline it is a part of that one's run, and a sync one
    gets the value of an async one. Its contract and graph are made from its definition when they are first
    needed; nothing of its body runs before a request.
    """

    __asgipipe_pipeline__ = True

    def __init__(
        self,
        function: Callable[P, R_co],
        options: PipelineOptions | None = None,
        settings_layers: tuple[tuple[str, SettingsLike], ...] = (),
    ) -> None:
        options = options or PipelineOptions()
        _refuse_unserved(function)
        self.function = function
        self.options = options
        self.settings_layers = settings_layers
        self.name = options.name or name_of(function)
        if not self.name.isprintable() or not 0 < len(self.name) <= 100:
            raise DefinitionError(f"{self.name!r} cannot name a pipeline: 1 to 100 printable characters do")
        self.kind = kind_in_run(function)
        self.description = doc_of(function)
        self.__doc__ = function.__doc__
        self.__name__ = self.name
        self.__module__ = getattr(function, "__module__", type(function).__module__)
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__wrapped__ = function
        self._hints: dict[str, object] | None = None
        # A class of the enclosing function can be found now, one that is defined further down only later.
        with contextlib.suppress(DefinitionError):
            self._hints = _annotations(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        if self.kind is Kind.ASYNC and _get_running_loop() is None:
            context = current.get()
            if context is not None:  # in a thread of another pipeline's, where nobody can await
                call = cast("Callable[[], Awaitable[object]]", partial(self.function, *args, **kwargs))
                return cast(R_co, context[0].wait_for(call))
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> "Pipeline[..., R_co]":
        """Bind like a function, so that methods can be pipelines."""
        if instance is None:
            return self
        return self._copy(self.function.__get__(instance, owner), self.options, self.settings_layers)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    @property
    def blocking(self) -> bool:
        return self.options.blocking

    @cached_property
    def text(self) -> bool:
        """True when the pipeline is a generator of str."""
        return self.kind.streams and is_text(self.hints)

    @property
    def hints(self) -> dict[str, object]:
        """The annotations of the function; raises DefinitionError for one that cannot be evaluated."""
        if self._hints is None:
            self._hints = _annotations(self.function)
        return self._hints

    @cached_property
    def shape(self) -> "OutputShape":
        from asgipipe.pipelines.outputs import output_names

        return output_names(self.function, self.hints)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.shape.names

    @cached_property
    def contract(self) -> "Contract":
        """Inputs and outputs as JSON.

        Raises DefinitionError for a type that has no JSON form, and for a step whose outputs cannot be decided.
        """
        from asgipipe.pipelines.contract import Contract

        self._check_steps()
        return Contract(
            self.name,
            self.function,
            self.hints,
            self.shape,
            input_model=_model(self.options.input_model, "input_model"),
            output_model=_model(self.options.output_model, "output_model"),
        )

    @cached_property
    def graph(self) -> "Graph":
        from asgipipe.pipelines.graph import read_graph

        return read_graph(self.function)

    def _check_steps(self) -> None:
        """Decide the outputs of every step that can be seen, those of pipelines inside this one included."""
        seen, waiting = set[int](), [self.graph]
        while waiting:
            for found in waiting.pop().steps:
                if id(found) in seen or not found.output_names:
                    continue
                seen.add(id(found))
                if isinstance(found, Pipeline):
                    waiting.append(found.graph)

    def with_options(
        self,
        *,
        name: str | None = None,
        settings: SettingsLike | None = None,
        capture: CaptureLike | None = None,
        on_init: Hook | str | None = None,
        on_cleanup: Hook | str | None = None,
        on_init_kwargs: Mapping[str, object] | None = None,
        on_cleanup_kwargs: Mapping[str, object] | None = None,
        blocking: bool | None = None,
        input_model: type[BaseModel] | str | None = None,
        output_model: type[BaseModel] | str | None = None,
    ) -> "Pipeline[P, R_co]":
        """Return a copy with the given options changed.

        `settings` are laid over those of the decorator, and a `capture` with a mode replaces the one below it.
        """
        apart = ("self", "settings", "capture", "apart")
        given = {key: value for key, value in locals().items() if key not in apart and value is not None}
        layers = self.settings_layers + _layers("with_options", settings, capture)
        return self._copy(self.function, replace(self.options, **given), layers)

    def create_snapshot(
        self,
        name: str | None = None,
        *,
        settings: SettingsLike | None = None,
        config_file: str | os.PathLike[str] | None = None,
        tags: Sequence[str] = (),
        description: str = "",
        store_url: str | None = None,
    ) -> "Snapshot":
        """Keep the pipeline with its settings as a snapshot, as `asgipipe snapshot create` does.

        Raises DefinitionError for a pipeline that no other process could import.
        """
        create = cast("Callable[..., Snapshot]", sources.load("asgipipe.client.client:create_snapshot"))
        return create(
            self,
            store_url=store_url,
            name=name,
            settings=settings,
            config_file=config_file,
            tags=tags,
            description=description,
        )

    def deploy(
        self,
        deployment_name: str | None = None,
        *,
        deployer: str | None = None,
        settings: SettingsLike | None = None,
        config_file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        open: bool = False,
        update: bool = False,
        overtake: bool = False,
        timeout: float | None = None,
        store_url: str | None = None,
    ) -> "DeploymentHandle":
        """Deploy the pipeline, as `asgipipe deploy` does, and return when it serves.

        By default the deployment has the pipeline's name, and a new one the local deployer and a key of its own; with
        `open` it needs none. `settings` are laid over the environment, that over `config_file`. One that exists is
        replaced with `update`; `overtake` confirms a change of somebody else's. It may take `timeout` seconds, two
        minutes by default, until it is ready.

        Raises DefinitionError for a pipeline that no other process could import, DeploymentError when it does not come
        to serve; what served before goes on then.
        """
        deploy = cast("Callable[..., DeploymentHandle]", sources.load("asgipipe.client.client:deploy"))
        return deploy(
            self,
            store_url=store_url,
            timeout=timeout,
            deployment_name=deployment_name,
            deployer=deployer,
            settings=settings,
            config_file=config_file,
            environment=environment,
            tags=tags,
            open=open,
            update=update,
            overtake=overtake,
        )

    def _copy(
        self, function: Callable[Q, R_co], options: PipelineOptions, layers: tuple[tuple[str, SettingsLike], ...]
    ) -> "Pipeline[Q, R_co]":
        copy = Pipeline(function, options, layers)
        copy._hints = self._hints or copy._hints  # what could be found when this one was defined
        return copy


def _layers(
    name: str, settings: SettingsLike | None, capture: CaptureLike | None
) -> tuple[tuple[str, SettingsLike], ...]:
    """Return the layers of settings given in one place; `capture` is the setting of that name."""
    given = (settings, None if capture is None else {"capture": capture})
    return tuple((name, values) for values in given if values is not None)


def _refuse_unserved(target: object) -> None:
    if not callable(target) or inspect.isclass(target):
        raise DefinitionError(f"a pipeline is a function or a callable object, not {target!r}")


def _annotations(function: Callable[..., object]) -> dict[str, object]:
    from asgipipe.pipelines.syntax import annotations

    return annotations(function)


def _model(model: type[BaseModel] | str | None, option: str) -> type[BaseModel] | None:
    found = sources.load(model) if isinstance(model, str) else model
    if found is None or (inspect.isclass(found) and issubclass(found, BaseModel)):
        return found
    raise DefinitionError(f"{option} is a pydantic model class, not {model!r}")


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    settings: SettingsLike | None = None,
    capture: CaptureLike | None = None,
    on_init: Hook | str | None = None,
    on_cleanup: Hook | str | None = None,
    on_init_kwargs: Mapping[str, object] | None = None,
    on_cleanup_kwargs: Mapping[str, object] | None = None,
    blocking: bool = True,
    input_model: type[BaseModel] | str | None = None,
    output_model: type[BaseModel] | str | None = None,
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    settings: SettingsLike | None = None,
    capture: CaptureLike | None = None,
    on_init: Hook | str | None = None,
    on_cleanup: Hook | str | None = None,
    on_init_kwargs: Mapping[str, object] | None = None,
    on_cleanup_kwargs: Mapping[str, object] | None = None,
    blocking: bool = True,
    input_model: type[BaseModel] | str | None = None,
    output_model: type[BaseModel] | str | None = None,
) -> Pipeline[P, R] | Callable[[Callable[P, R]], Pipeline[P, R]]:
    """Make a function a pipeline.

    `on_init` runs once per process before the first request and gives `pipeline_state`; `on_cleanup` runs once at the
    end and is given the state when it takes an argument; both may be async. `blocking=False` promises that a sync
    pipeline never waits, so it runs on the event loop without a hop to a thread. `capture` says what its runs leave
    behind: a CapturePolicy, its fields, or a mode such as "full"; it is the setting of that name. `input_model` and
    `output_model` describe a callable without annotations: the fields of the first are passed as keyword arguments.
    """
    options = PipelineOptions(
        name=name,
        on_init=on_init,
        on_cleanup=on_cleanup,
        on_init_kwargs=on_init_kwargs or {},
        on_cleanup_kwargs=on_cleanup_kwargs or {},
        blocking=blocking,
        input_model=input_model,
        output_model=output_model,
    )
    layers = _layers("decorator", settings, capture)

    def decorate(function: Callable[P, R]) -> Pipeline[P, R]:
        return Pipeline(function, options, layers)

    return decorate if function is None else decorate(function)


def as_pipeline(target: object) -> Pipeline[..., object]:
    """Return `target` as a pipeline: itself, or any callable wrapped.

    Raises DefinitionError when it cannot be called.
    """
    if isinstance(target, Pipeline):
        return target
    if isinstance(target, Step):
        return Pipeline(cast(Callable[..., object], target), PipelineOptions(name=target.name))
    if not callable(target):
        raise DefinitionError(f"{target!r} cannot be served: it is not callable")
    return Pipeline(target)
