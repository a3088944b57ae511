"""Pipelines: the functions that are served."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel

from asgipipe import sources
from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import Kind, kind_of, name_of, underlying
from asgipipe.pipelines.contract import Contract
from asgipipe.pipelines.graph import Graph, read_graph
from asgipipe.pipelines.outputs import OutputShape, output_names
from asgipipe.pipelines.step import Step
from asgipipe.pipelines.stream import is_text
from asgipipe.pipelines.syntax import annotations
from asgipipe.settings import DeploymentSettings

P = ParamSpec("P")
R = TypeVar("R")
Hook = Callable[..., object]
SettingsLike = DeploymentSettings | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What `@pipeline` and `with_options` take; hooks and models may be import strings."""

    name: str | None = None
    settings: SettingsLike | None = None
    on_init: Hook | str | None = None
    on_cleanup: Hook | str | None = None
    on_init_kwargs: Mapping[str, object] = field(default_factory=dict)
    on_cleanup_kwargs: Mapping[str, object] = field(default_factory=dict)
    blocking: bool = True
    input_model: type[BaseModel] | str | None = None
    output_model: type[BaseModel] | str | None = None


class Pipeline(Generic[P, R]):
    """A function that is served: decorated with `@pipeline`, or any callable wrapped as one.

    Called directly it is the plain function. Its contract and graph are made from its definition when they are first
    needed; nothing of its body runs before a request.
    """

    __asgipipe_pipeline__ = True

    def __init__(
        self,
        function: Callable[P, R],
        options: PipelineOptions | None = None,
        settings_layers: tuple[tuple[str, SettingsLike], ...] = (),
    ) -> None:
        options = options or PipelineOptions()
        if not callable(function) or inspect.isclass(function):
            raise DefinitionError(f"a pipeline is a function or a callable object, not {function!r}")
        self.function = function
        self.options = options
        self.settings_layers = settings_layers
        self.name = options.name or name_of(function)
        if not self.name.isprintable() or not 0 < len(self.name) <= 100:
            raise DefinitionError(f"{self.name!r} cannot name a pipeline: 1 to 100 printable characters do")
        self.kind = kind_of(function)
        self.description = inspect.getdoc(underlying(function)) or ""
        self.__doc__ = function.__doc__
        self.__name__ = self.name
        self.__module__ = getattr(function, "__module__", type(function).__module__)
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    @property
    def blocking(self) -> bool:
        return self.options.blocking

    @cached_property
    def text(self) -> bool:
        """True when the pipeline is a generator of str."""
        return self.kind.streams and is_text(underlying(self.function))

    @cached_property
    def hints(self) -> dict[str, object]:
        return annotations(self.function)

    @cached_property
    def shape(self) -> OutputShape:
        return output_names(self.function, self.hints)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.shape.names

    @cached_property
    def contract(self) -> Contract:
        """Inputs and outputs as JSON; raises DefinitionError for a type that has no JSON form."""
        return Contract(
            self.name,
            self.function,
            self.hints,
            self.shape,
            input_model=_model(self.options.input_model, "input_model"),
            output_model=_model(self.options.output_model, "output_model"),
        )

    @cached_property
    def graph(self) -> Graph:
        return read_graph(self.function)

    def with_options(
        self,
        *,
        name: str | None = None,
        settings: SettingsLike | None = None,
        on_init: Hook | str | None = None,
        on_cleanup: Hook | str | None = None,
        on_init_kwargs: Mapping[str, object] | None = None,
        on_cleanup_kwargs: Mapping[str, object] | None = None,
        blocking: bool | None = None,
        input_model: type[BaseModel] | str | None = None,
        output_model: type[BaseModel] | str | None = None,
    ) -> "Pipeline[P, R]":
        """Return a copy with the given options changed; `settings` are laid over those of the decorator."""
        given = {key: value for key, value in locals().items() if key not in ("self", "settings") and value is not None}
        layers = self.settings_layers
        if settings is not None:
            layers = (*layers, ("with_options", settings))
        return Pipeline(self.function, replace(self.options, **given), layers)


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
    on_init: Hook | str | None = None,
    on_cleanup: Hook | str | None = None,
    on_init_kwargs: Mapping[str, object] | None = None,
    on_cleanup_kwargs: Mapping[str, object] | None = None,
    blocking: bool = True,
    input_model: type[BaseModel] | str | None = None,
    output_model: type[BaseModel] | str | None = None,
) -> Pipeline[P, R] | Callable[[Callable[P, R]], Pipeline[P, R]]:
    """Make a function a pipeline.

    `on_init` runs once per process before the first request and gives `pipeline_state`; `on_cleanup` runs once at the end
    and is given the state when it takes an argument; both may be async. `blocking=False` promises that a sync pipeline
    never waits, so it runs on the event loop without a hop to a thread. `input_model` and `output_model` describe a callable
    without annotations: the fields of the first are passed as keyword arguments.
    """
    options = PipelineOptions(
        name=name,
        settings=settings,
        on_init=on_init,
        on_cleanup=on_cleanup,
        on_init_kwargs=on_init_kwargs or {},
        on_cleanup_kwargs=on_cleanup_kwargs or {},
        blocking=blocking,
        input_model=input_model,
        output_model=output_model,
    )
    layers = () if settings is None else (("decorator", settings),)

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


__all__ = ["Kind", "Pipeline", "PipelineOptions", "as_pipeline", "pipeline"]
