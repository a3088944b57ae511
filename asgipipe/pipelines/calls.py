"""What a call in a syntax tree calls, and with what."""

import ast
import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import TYPE_CHECKING, Final

from asgipipe.pipelines.callables import Plain, StepLike, is_a, is_node, is_pipeline
from asgipipe.pipelines.syntax import UNKNOWN, FunctionNode, attribute, parameter_names
from asgipipe.pipelines.values import Env, Value, blend, sources_of

if TYPE_CHECKING:
    from asgipipe.pipelines.flow import Frame

OPAQUE: Final = object()  # stands for a local class: known, and no step


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call; with `spread` it is not known which parameter gets which of them."""

    positional: tuple[Value, ...] = ()
    keywords: Mapping[str, Value] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()
    spread: bool = False

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.positional, *self.keywords.values())

    def without(self, left_out: Value) -> "Arguments":
        """Return what a callable among the arguments may be called with: any of the others."""
        return Arguments(sources=sources_of(value for value in self.values if value is not left_out), spread=True)


@dataclass(frozen=True, slots=True, eq=False)
class LocalFunction:
    """A function or lambda that is defined inside the one that is read."""

    node: FunctionNode
    frame: "Frame"


@dataclass(frozen=True, slots=True, eq=False)
class _Options:
    """The method `with_options` of a step."""

    step: StepLike


class _Renamed:
    """A step with another name, as `with_options(name=...)` makes it."""

    def __init__(self, step: StepLike, name: str) -> None:
        self._step = step
        self.name = name
        self.__asgipipe_step__ = not is_pipeline(step)
        self.__asgipipe_pipeline__ = is_pipeline(step)

    @property
    def function(self) -> Callable[..., object]:
        return self._step.function

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._step.output_names


def _member(owner: object, name: str) -> object:
    if is_a(owner, LocalFunction):
        return UNKNOWN
    if not is_node(owner):
        return attribute(owner, name)
    if name == "with_options":
        return _Options(owner)
    return owner if name in ("submit", "map") else attribute(owner, name)


def step_in(target: object) -> StepLike | None:
    """Return the step or pipeline that calling `target` runs: itself, or the one in a partial."""
    inner = target.func if is_a(target, functools.partial) else target
    return inner if is_node(inner) else None


def members_of(owner: Value, name: str) -> Value:
    found = tuple(_member(candidate, name) for candidate in owner.objects)
    return Value(owner.sources, () if any(member is UNKNOWN for member in found) else found)


def known_call(target: object, node: ast.Call, given: Arguments, sources: frozenset[str]) -> Value | None:
    """Return the result of those calls whose meaning is known: they run nothing themselves."""
    if is_a(target, _Options):
        name = next((constant_of(keyword.value) for keyword in node.keywords if keyword.arg == "name"), None)
        return Value(sources, (_Renamed(target.step, name) if isinstance(name, str) else target.step,))
    if target is functools.partial and given.positional:
        return Value(sources, given.positional[0].objects)
    if target is asyncio.gather and not given.spread:
        return Value(sources, items=given.positional)
    return Value(sources) if target is OPAQUE else None


def constant_of(node: ast.expr) -> object:
    """Return the constant that `node` is, UNKNOWN if it is none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = constant_of(node.operand)
        return -operand if isinstance(operand, int) else UNKNOWN
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


def parameters_of(function: ast.arguments, given: Arguments, defaults: Env) -> Env:
    """Return what the parameters of a function are when it is called with `given`."""
    rest = Value(given.sources) if given.spread else Value()
    env = {**dict.fromkeys(parameter_names(function), rest), **defaults}
    positional = [parameter.arg for parameter in (*function.posonlyargs, *function.args)]
    env.update(zip(positional, given.positional, strict=False))
    more = [value for name, value in given.keywords.items() if name not in env]
    env.update((name, value) for name, value in given.keywords.items() if name in env)
    if function.vararg is not None:
        env[function.vararg.arg] = blend([rest, *given.positional[len(positional) :]])
    if function.kwarg is not None:
        env[function.kwarg.arg] = blend([rest, *more])
    return env


def default_steps(function: FunctionType) -> Env:
    """Return the parameters whose default is a step: a request, being JSON, cannot give another."""
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    every = {**dict(zip(names, defaults, strict=True)), **(function.__kwdefaults__ or {})}
    return {name: Value(objects=(default,)) for name, default in every.items() if is_node(default)}


def with_wrapped(plain: Plain, given: Arguments) -> Arguments:
    """Return `given` with `self` and the arguments of partials in front."""
    front = tuple(Value(objects=(argument,)) for argument in plain.arguments)
    keywords = {name: Value(objects=(argument,)) for name, argument in plain.keywords.items()}
    return replace(given, positional=(*front, *given.positional), keywords={**keywords, **given.keywords})
