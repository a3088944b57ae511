"""The graph of a pipeline's steps, read from its syntax tree without running anything.

The tree is walked as the program would run, with values in place of objects: of an expression is known which nodes'
results are in it, and which Python objects it may be. Branches are walked one after the other and joined, loops until
nothing new is learnt, helper functions where they are called.
"""

import ast
import asyncio
import builtins
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import FunctionType
from typing import Final, Literal, TypeVar

from asgipipe.pipelines.syntax import (
    UNKNOWN,
    FunctionNode,
    Plain,
    StepLike,
    attribute,
    definition,
    imported,
    is_a,
    is_node,
    is_pipeline,
    local_names,
    mentions_steps,
    parameter_names,
    plain_function,
    resolve,
)

T = TypeVar("T")

MAX_NODES = 2000
MAX_VISITS = 20_000  # expressions and statements of the function, and as many of all helpers together
MAX_DEPTH = 8  # helpers calling helpers
MAX_PASSES = 5  # through a loop's body; two are enough for most
MAX_ALTERNATIVES = 16
MAX_LABEL = 60  # characters of a call that is not resolved


@dataclass(frozen=True, slots=True)
class Node:
    """One place where a step, or a pipeline inside the pipeline, is called.

    `id` is the step's name, numbered from the second call on (`clean`, `clean_2`). `branch`: it may be left out;
    `loop`: it may run several times; `dynamic`: which step runs, or whether one does, is only known at run time.
    """

    id: str
    step: str
    kind: Literal["step", "pipeline"] = "step"
    branch: bool = False
    loop: bool = False
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """The result of `source` is in an argument of `target`."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order of the calls; an edge that points backwards is what a loop hands to its next turn.

    `dynamic` says that there may be more than what is shown.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    dynamic: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the object that `/info` shows: `nodes`, `edges` and `dynamic`, each with the fields of its class."""
        nodes, edges = map(asdict, self.nodes), map(asdict, self.edges)
        return {"nodes": list(nodes), "edges": list(edges), "dynamic": self.dynamic}


def read_graph(function: Callable[..., object]) -> Graph:
    """Read the graph of a pipeline's function, or of any callable.

    Never raises: where the source is not at hand the graph is empty and dynamic, and one with more than 2000 nodes is
    cut and dynamic.
    """
    reading = _Reading(follows=True)
    reading.read(function)
    nodes = tuple(reading.nodes.values())
    return Graph(nodes, tuple(reading.edges), not reading.complete or any(node.dynamic for node in nodes))


def returned_value(function: Callable[..., object]) -> "Value | None":
    """Return what is known of the value that `function` itself returns, its return statements joined.

    None where nothing is: no source, or no return statement. Helpers are not followed: one that is defined further down
    in the module would count or not, depending on when this is asked.
    """
    return _Reading(follows=False).read(function)


# Values


@dataclass(frozen=True, slots=True)
class Origin:
    """An output of a step: the one numbered `output`, or all that the step returns; `submitted` while in a future."""

    step: StepLike
    output: int | None = None
    submitted: bool = False

    @property
    def is_whole(self) -> bool:
        return self.output is None and not self.submitted


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What is known of an expression.

    `sources`: the nodes whose results are in it. `objects`: the Python objects it may be; empty when not known.
    `origins`: the step outputs it may be, unchanged; empty when it may be anything else. `items`: its items, when it
    was written as a tuple or list of fixed length; `is_tuple` when as a tuple.
    """

    sources: frozenset[str] = frozenset()
    objects: tuple[object, ...] = ()
    origins: tuple[Origin, ...] = ()
    items: "tuple[Value, ...] | None" = None
    is_tuple: bool = False


_Env = dict[str, Value]
_OPAQUE: Final = object()  # stands for a local class: known, and no step

_BUILTINS: Final = frozenset(map(id, vars(builtins).values()))

# Methods that put their arguments into the object they are called on.
_STORING = frozenset(
    ["add", "append", "appendleft", "extend", "extendleft", "insert", "put", "put_nowait", "setdefault", "update"]
)


def _sources(values: Iterable[Value]) -> frozenset[str]:
    return frozenset().union(*(value.sources for value in values))


def _blend(values: Iterable[Value]) -> Value:
    """Return what was made from all of `values`."""
    return Value(_sources(values))


def _join(values: Sequence[Value]) -> Value:
    """Return what is one of `values`."""
    if len(values) == 1:
        return values[0]
    return Value(
        _sources(values),
        _alternatives([value.objects for value in values], id),
        _alternatives(
            [value.origins for value in values], lambda origin: (id(origin.step), origin.output, origin.submitted)
        ),
        _columns([value.items for value in values]),
        all(value.is_tuple for value in values),
    )


def _alternatives(options: Sequence[tuple[T, ...]], key: Callable[[T], object]) -> tuple[T, ...]:
    if not all(options):
        return ()
    different = {key(choice): choice for option in options for choice in option}
    return tuple(different.values()) if len(different) <= MAX_ALTERNATIVES else ()


def _columns(rows: Sequence[tuple[Value, ...] | None]) -> tuple[Value, ...] | None:
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len({len(row) for row in known}) != 1:
        return None
    return tuple(_join(column) for column in zip(*known, strict=True))


def _joined(envs: Sequence[_Env]) -> _Env:
    names = dict.fromkeys(name for env in envs for name in env)
    # A name that one branch does not bind is what the others say: without them, using it would be an error.
    return {name: _join([env[name] for env in envs if name in env]) for name in names}


def unpacked(value: Value, count: int) -> tuple[Value, ...] | None:
    """Return the items of a value that is unpacked into `count` names."""
    if value.items is not None:
        return value.items if len(value.items) == count else None
    if count > 1 and value.origins and all(_is_split(origin, count) for origin in value.origins):
        return tuple(
            Value(value.sources, origins=tuple(Origin(origin.step, index) for origin in value.origins))
            for index in range(count)
        )
    return None


def _is_split(origin: Origin, count: int) -> bool:
    return origin.is_whole and len(origin.step.output_names) == count


def _settled(value: Value) -> Value:
    """Return the result of the futures that `value` is or consists of."""
    origins = tuple(replace(origin, submitted=False) for origin in value.origins)
    return replace(value, origins=origins, items=None if value.items is None else tuple(map(_settled, value.items)))


def _item(value: Value, index: object) -> Value | None:
    """Return `value[index]`, for an index that is written as a constant."""
    if isinstance(index, int):
        count = len(value.origins[0].step.output_names) if value.origins else 0
        parts = unpacked(value, count) if value.items is None else value.items
        if parts is not None:
            return parts[index] if -len(parts) <= index < len(parts) else None
    found = tuple(_constant_item(container, index) for container in value.objects)
    return Value(value.sources, found) if found and all(item is not UNKNOWN for item in found) else None


def _constant_item(container: object, index: object) -> object:
    if type(container) is dict:
        return container.get(index, UNKNOWN)
    if isinstance(index, int) and (type(container) is list or type(container) is tuple):
        return container[index] if -len(container) <= index < len(container) else UNKNOWN
    return UNKNOWN


def _each(value: Value) -> Value:
    """Return what a loop over `value` gives on each turn."""
    if value.items:
        return _join(value.items)
    steps = _alternatives([_steps_in(container) for container in value.objects], id) if value.objects else ()
    return Value(value.sources, steps)


def _steps_in(container: object) -> tuple[object, ...]:
    known = type(container) is list or type(container) is tuple
    return tuple(container) if known and all(map(is_node, container)) else ()  # type: ignore[call-overload,arg-type]


# Calls


@dataclass(frozen=True, slots=True)
class _Arguments:
    """The arguments of a call; with `spread` it is not known which parameter gets which of them."""

    positional: tuple[Value, ...] = ()
    keywords: Mapping[str, Value] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()
    spread: bool = False

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.positional, *self.keywords.values())

    def without(self, left_out: Value) -> "_Arguments":
        """Return what a callable among the arguments may be called with: any of the others."""
        return _Arguments(sources=_sources(value for value in self.values if value is not left_out), spread=True)


@dataclass(frozen=True, slots=True, eq=False)
class _LocalFunction:
    """A function or lambda that is defined inside the one that is read."""

    node: FunctionNode
    frame: "_Frame"


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
    if is_a(owner, _LocalFunction):
        return UNKNOWN
    if not is_node(owner):
        return attribute(owner, name)
    if name == "with_options":
        return _Options(owner)
    return owner if name in ("submit", "map") else attribute(owner, name)


def _step_in(target: object) -> StepLike | None:
    """Return the step or pipeline that calling `target` runs: itself, or the one in a partial."""
    inner = target.func if is_a(target, functools.partial) else target
    return inner if is_node(inner) else None


def _members(owner: Value, name: str) -> Value:
    found = tuple(_member(candidate, name) for candidate in owner.objects)
    return Value(owner.sources, () if any(member is UNKNOWN for member in found) else found)


def _known_call(target: object, node: ast.Call, given: _Arguments, sources: frozenset[str]) -> Value | None:
    """Return the result of those calls whose meaning is known: they run nothing themselves."""
    if is_a(target, _Options):
        name = next((_constant(keyword.value) for keyword in node.keywords if keyword.arg == "name"), None)
        return Value(sources, (_Renamed(target.step, name) if isinstance(name, str) else target.step,))
    if target is functools.partial and given.positional:
        return Value(sources, given.positional[0].objects)
    if target is asyncio.gather and not given.spread:
        return Value(sources, items=given.positional)
    return Value(sources) if target is _OPAQUE else None


def _identifier(label: str) -> str:
    """Return the name that a call which is not resolved begins with: `steps` of `steps[i]`."""
    found = re.match(r"\w+", label)
    return found[0] if found else "call"


def _flow(env: _Env) -> dict[str, frozenset[str]]:
    return {name: value.sources for name, value in env.items()}


def _constant(node: ast.expr) -> object:
    """Return the constant that `node` is, UNKNOWN if it is none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = _constant(node.operand)
        return -operand if isinstance(operand, int) else UNKNOWN
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


def _parameters(function: ast.arguments, given: _Arguments, defaults: _Env) -> _Env:
    """Return what the parameters of a function are when it is called with `given`."""
    rest = Value(given.sources) if given.spread else Value()
    env = {**dict.fromkeys(parameter_names(function), rest), **defaults}
    positional = [parameter.arg for parameter in (*function.posonlyargs, *function.args)]
    env.update(zip(positional, given.positional, strict=False))
    more = [value for name, value in given.keywords.items() if name not in env]
    env.update((name, value) for name, value in given.keywords.items() if name in env)
    if function.vararg is not None:
        env[function.vararg.arg] = _blend([rest, *given.positional[len(positional) :]])
    if function.kwarg is not None:
        env[function.kwarg.arg] = _blend([rest, *more])
    return env


def _default_steps(function: FunctionType) -> _Env:
    """Return the parameters whose default is a step: a request, being JSON, cannot give another."""
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    every = {**dict(zip(names, defaults, strict=True)), **(function.__kwdefaults__ or {})}
    return {name: Value(objects=(default,)) for name, default in every.items() if is_node(default)}


def _with_wrapped(plain: Plain, given: _Arguments) -> _Arguments:
    """Return `given` with `self` and the arguments of partials in front."""
    front = tuple(Value(objects=(argument,)) for argument in plain.arguments)
    keywords = {name: Value(objects=(argument,)) for name, argument in plain.keywords.items()}
    return replace(given, positional=(*front, *given.positional), keywords={**keywords, **given.keywords})


# Reading


class _CutError(Exception):
    """The function is too large to be read to its end."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the program a call is.

    `path` holds the calls that lead there, `functions` what they call; `helper` says that one is not in the source of
    the function that is read.
    """

    branch: bool = False
    loop: bool = False
    dynamic: bool = False
    helper: bool = False
    path: tuple[ast.Call, ...] = ()
    functions: tuple[FunctionNode, ...] = ()


_Key = tuple[tuple[ast.Call, ...], ast.Call, str]


class _Reading:
    """What was found so far, and how much of it may be."""

    def __init__(self, *, follows: bool) -> None:
        self.follows = follows
        self.complete = True
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.calls = 0  # of steps, those of repeated passes included
        self.barren: set[FunctionNode] = set()  # helpers that turned out to have nothing to do with steps
        self._ids: dict[_Key, str] = {}
        self._package = ""
        self._visits = Counter[bool]()

    def read(self, target: Callable[..., object]) -> Value | None:
        plain = plain_function(target)
        node = None if plain is None else definition(plain.function)
        if plain is None or node is None:
            self.complete = False
            return None
        self._package = _package(plain.function)
        frame = _Frame(self, plain.function, local_names(node), _Place(functions=(node,)))
        frame.env = _parameters(node.args, _with_wrapped(plain, _Arguments()), _default_steps(plain.function))
        try:
            return frame.run(node)
        except (_CutError, RecursionError):
            self.complete = False
            return None

    def visit(self, *, helper: bool) -> None:
        self._visits[helper] += 1
        if self._visits[helper] > MAX_VISITS:
            raise _CutError

    def inner(self, target: object) -> tuple[Plain, FunctionNode] | None:
        """Return the function of `target` if it should be read too: one of the project's, or one that names steps."""
        plain = plain_function(target) if self.follows and not is_node(target) else None
        if plain is None or not (_package(plain.function) == self._package or mentions_steps(plain.function)):
            return None
        node = definition(plain.function)
        return None if node is None else (plain, node)

    def add(self, key: _Key, node: Node, sources: frozenset[str]) -> Value:
        """Add a node, unless an earlier pass met the same call, and the edges to it; return its result."""
        self.calls += 1
        if key not in self._ids:
            if len(self.nodes) >= MAX_NODES:
                raise _CutError
            free = self._free(node.id)
            self._ids[key] = free
            self.nodes[free] = replace(node, id=free)
        found = self._ids[key]
        self.edges.update(dict.fromkeys(Edge(source, found) for source in sorted(sources) if source != found))
        return Value(frozenset({found}))

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self.nodes:
            number += 1
            free = f"{name}_{number}"
        return free


def _package(function: FunctionType) -> str:
    return str(function.__globals__.get("__name__", "")).partition(".")[0]


@dataclass(frozen=True, slots=True)
class _End:
    """The names at the end of a block, and whether the program goes on from there."""

    env: _Env
    goes_on: bool


class _Frame:
    """The reading of one function's body: expressions have values, statements say whether the program goes on."""

    def __init__(self, reading: _Reading, function: FunctionType, local: frozenset[str], place: _Place) -> None:
        self.env: _Env = {}
        self._reading = reading
        self._function = function
        self._local = local
        self._place = place
        self._returned: list[Value] = []
        self._yielded: list[Value] = []
        self._exits: list[list[_Env]] = []

    def run(self, node: FunctionNode) -> Value | None:
        """Return what calling the function gives, None if it has no return statement."""
        if isinstance(node, ast.Lambda):
            return self.expression(node.body)
        self._block(node.body)
        if self._yielded:
            return _blend([*self._yielded, *self._returned])
        return _join(self._returned) if self._returned else None

    def _block(self, statements: Iterable[ast.stmt]) -> bool:
        for node in statements:
            self._reading.visit(helper=self._place.helper)
            if not self._statement(node):
                return False
        return True

    def _branch(self, statements: Iterable[ast.stmt], env: _Env) -> _End:
        before, self.env = self.env, dict(env)
        goes_on = self._block(statements)
        end, self.env = _End(self.env, goes_on), before
        return end

    def _meet(self, ends: Sequence[_End]) -> bool:
        """Go on with what the branches that end here have in common; say whether there are any."""
        going = [end.env for end in ends if end.goes_on]
        self.env = _joined(going or [end.env for end in ends])
        return bool(going)

    @contextmanager
    def _within(self, *, branch: bool = False, loop: bool = False, dynamic: bool = False) -> Iterator[None]:
        before = self._place
        self._place = replace(
            before, branch=before.branch or branch, loop=before.loop or loop, dynamic=before.dynamic or dynamic
        )
        try:
            yield
        finally:
            self._place = before

    # Statements

    @functools.singledispatchmethod
    def _statement(self, node: ast.stmt) -> bool:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child)
        return True

    @_statement.register
    def _return(self, node: ast.Return) -> bool:
        self._returned.append(Value() if node.value is None else self.expression(node.value))
        return False

    @_statement.register
    def _raise(self, node: ast.Raise) -> bool:
        for child in (node.exc, node.cause):
            if child is not None:
                self.expression(child)
        return False

    @_statement.register
    def _end_turn(self, node: ast.Break | ast.Continue) -> bool:
        self._exits[-1].append(dict(self.env))
        return False

    @_statement.register
    def _assign(self, node: ast.Assign) -> bool:
        value = self.expression(node.value)
        for target in node.targets:
            self._bind(target, value)
        return True

    @_statement.register
    def _assign_annotated(self, node: ast.AnnAssign) -> bool:
        if node.value is not None:
            self._bind(node.target, self.expression(node.value))
        return True

    @_statement.register
    def _assign_augmented(self, node: ast.AugAssign) -> bool:
        value = self.expression(node.value)
        before = self._name(node.target) if isinstance(node.target, ast.Name) else Value()
        self._bind(node.target, _blend([before, value]))
        return True

    @_statement.register
    def _if(self, node: ast.If) -> bool:
        self.expression(node.test)
        with self._within(branch=True):
            ends = [self._branch(node.body, self.env), self._branch(node.orelse, self.env)]
        return self._meet(ends)

    @_statement.register
    def _match(self, node: ast.Match) -> bool:
        subject = self.expression(node.subject)
        with self._within(branch=True):
            ends = [self._case(case, subject) for case in node.cases]
        last = node.cases[-1]
        catches_all = last.guard is None and isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
        return self._meet(ends if catches_all else [*ends, _End(self.env, goes_on=True)])

    def _case(self, case: ast.match_case, subject: Value) -> _End:
        env = dict(self.env)
        for pattern in ast.walk(case.pattern):
            match pattern:
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                    env[name] = Value(subject.sources)
        guard = [] if case.guard is None else [ast.Expr(case.guard)]
        return self._branch([*guard, *case.body], env)

    @_statement.register
    def _try(self, node: ast.Try | ast.TryStar) -> bool:
        with self._within(branch=True):
            body = self._branch(node.body, self.env)
            anywhere = _joined([self.env, body.env])  # a handler takes over after any statement of the body
            ends = [self._branch(handler.body, anywhere) for handler in node.handlers]
            ends.append(self._branch(node.orelse, body.env) if body.goes_on else body)
        goes_on = self._meet(ends)
        return self._block(node.finalbody) and goes_on

    @_statement.register
    def _with(self, node: ast.With | ast.AsyncWith) -> bool:
        for item in node.items:
            value = self.expression(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, Value(value.sources))
        self._block(node.body)
        return True  # a context manager may swallow the exception that left the block early

    @_statement.register
    def _for(self, node: ast.For | ast.AsyncFor) -> bool:
        each = _each(self.expression(node.iter))

        def turn() -> bool:
            self._bind(node.target, each)
            return self._block(node.body)

        return self._loop(turn, node.orelse)

    @_statement.register
    def _while(self, node: ast.While) -> bool:
        def turn() -> bool:
            self.expression(node.test)
            return self._block(node.body)

        return self._loop(turn, node.orelse)

    def _loop(self, turn: Callable[[], bool], otherwise: Sequence[ast.stmt]) -> bool:
        with self._within(loop=True):
            for _ in range(MAX_PASSES):
                before, self.env = self.env, dict(self.env)
                self._exits.append([])
                goes_on = turn()
                ends = [*self._exits.pop(), *([self.env] if goes_on else [])]
                self.env = _joined([before, *ends])
                if _flow(before) == _flow(self.env):
                    break
        with self._within(branch=True):
            return self._meet([self._branch(otherwise, self.env), _End(self.env, goes_on=True)])

    @_statement.register
    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        # What a decorator makes of a function is only known once it has run.
        self.env[node.name] = Value() if node.decorator_list else self._local_function(node)
        return True

    @_statement.register
    def _define_class(self, node: ast.ClassDef) -> bool:
        self.env[node.name] = Value(objects=(_OPAQUE,))
        return True

    @_statement.register
    def _import(self, node: ast.Import | ast.ImportFrom) -> bool:
        for name, found in imported(node, self._function).items():
            self.env[name] = Value(objects=() if found is UNKNOWN else (found,))
        return True

    def _bind(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.env[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                starred = any(isinstance(inner, ast.Starred) for inner in targets)
                parts = None if starred else unpacked(value, len(targets))
                for index, inner in enumerate(targets):
                    self._bind(inner, Value(value.sources) if parts is None else parts[index])
            case ast.Starred(value=rest):
                self._bind(rest, Value(value.sources))
            case _:  # an attribute or an item of something
                self.expression(target)
                self._store(target, value.sources)

    def _store(self, target: ast.expr, sources: frozenset[str]) -> None:
        """Note that something was put into the object that `target` is, or is an attribute or item of."""
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name) and sources:
            before = self._name(target)
            self.env[target.id] = Value(before.sources | sources, before.objects)

    # Expressions

    def expression(self, node: ast.expr) -> Value:
        self._reading.visit(helper=self._place.helper)
        return self._value(node)

    @functools.singledispatchmethod
    def _value(self, node: ast.expr) -> Value:
        # Operators, f-strings, dictionaries, slices: made from all of their parts.
        return _blend([self.expression(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)])

    @_value.register
    def _name(self, node: ast.Name) -> Value:
        if node.id in self.env:
            return self.env[node.id]
        found = UNKNOWN if node.id in self._local else resolve(self._function, node.id)
        return Value(objects=() if found is UNKNOWN else (found,))

    @_value.register
    def _attribute(self, node: ast.Attribute) -> Value:
        return _members(self.expression(node.value), node.attr)

    @_value.register
    def _subscript(self, node: ast.Subscript) -> Value:
        value, index = self.expression(node.value), self.expression(node.slice)
        constant = _constant(node.slice)
        item = None if constant is UNKNOWN else _item(value, constant)
        return _blend([value, index]) if item is None else item

    @_value.register
    def _display(self, node: ast.Tuple | ast.List) -> Value:
        items = tuple(self.expression(item) for item in node.elts)
        if any(isinstance(item, ast.Starred) for item in node.elts):
            return _blend(items)
        return Value(_sources(items), items=items, is_tuple=isinstance(node, ast.Tuple))

    @_value.register
    def _await(self, node: ast.Await) -> Value:
        return _settled(self.expression(node.value))

    @_value.register
    def _walrus(self, node: ast.NamedExpr) -> Value:
        value = self.expression(node.value)
        self._bind(node.target, value)
        return value

    @_value.register
    def _conditional(self, node: ast.IfExp) -> Value:
        self.expression(node.test)
        with self._within(branch=True):
            return _join([self.expression(node.body), self.expression(node.orelse)])

    @_value.register
    def _and_or(self, node: ast.BoolOp) -> Value:
        first = self.expression(node.values[0])
        with self._within(branch=True):
            return _join([first, *(self.expression(value) for value in node.values[1:])])

    @_value.register
    def _lambda(self, node: ast.Lambda) -> Value:
        return self._local_function(node)

    def _local_function(self, node: FunctionNode) -> Value:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.expression(default)
        return Value(objects=(_LocalFunction(node, self),))

    @_value.register
    def _yield(self, node: ast.Yield | ast.YieldFrom) -> Value:
        value = Value() if node.value is None else self.expression(node.value)
        self._yielded.append(value)
        return Value(value.sources if isinstance(node, ast.YieldFrom) else frozenset())

    @_value.register
    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        return self._generated(node.generators, [node.elt])

    @_value.register
    def _dict_comprehension(self, node: ast.DictComp) -> Value:
        return self._generated(node.generators, [node.key, node.value])

    def _generated(self, generators: Sequence[ast.comprehension], results: Sequence[ast.expr]) -> Value:
        before, bound = dict(self.env), set[str]()
        iterable = self.expression(generators[0].iter)  # evaluated once, before the loop
        with self._within(loop=True):
            for index, generator in enumerate(generators):
                self._bind(generator.target, _each(self.expression(generator.iter) if index else iterable))
                bound.update(name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name))
                for condition in generator.ifs:
                    self.expression(condition)
            value = _blend([self.expression(result) for result in results])
        kept = {name: found for name, found in self.env.items() if name not in bound}
        self.env = {**kept, **{name: before[name] for name in bound if name in before}}
        return value

    # Calls

    @_value.register
    def _call(self, node: ast.Call) -> Value:
        method = node.func if isinstance(node.func, ast.Attribute) else None
        owner = Value() if method is None else self.expression(method.value)
        callee = self.expression(node.func) if method is None else _members(owner, method.attr)
        given = self._arguments(node)
        if callee.objects:
            with self._within(branch=len(callee.objects) > 1):
                return _join([self._call_object(node, target, callee, given) for target in callee.objects])
        if method is None:
            with self._within(dynamic=True):
                return self._add(node, None, ast.unparse(node.func)[:MAX_LABEL], callee.sources | given.sources)
        if method.attr == "result" and owner.origins and all(origin.submitted for origin in owner.origins):
            return _settled(owner)
        return self._call_outside(node, UNKNOWN, callee.sources | given.sources, given)

    def _arguments(self, node: ast.Call) -> _Arguments:
        positional = tuple(self.expression(argument) for argument in node.args)
        keywords = [(keyword.arg, self.expression(keyword.value)) for keyword in node.keywords]
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        return _Arguments(
            () if starred else positional,
            {name: value for name, value in keywords if name is not None},
            _sources([*positional, *(value for _, value in keywords)]),
            spread=starred or any(name is None for name, _ in keywords),
        )

    def _call_object(self, node: ast.Call, target: object, callee: Value, given: _Arguments) -> Value:
        sources = callee.sources | given.sources
        if step := _step_in(target):
            return self._call_step(node, step, sources)
        if is_a(target, _LocalFunction):
            return self._enter_local(node, target, given)
        known = _known_call(target, node, given, sources)
        if known is not None:
            return known
        inner = self._reading.inner(target)
        return self._call_outside(node, target, sources, given) if inner is None else self._enter(node, *inner, given)

    def _call_step(self, node: ast.Call, step: StepLike, sources: frozenset[str]) -> Value:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        with self._within(loop=method == "map"):
            result = self._add(node, step, step.name, sources)
        if method == "map" or self._reading.follows:  # a list of outputs; origins are of no use to the graph
            return result
        return replace(result, origins=(Origin(step, submitted=method == "submit"),))

    def _call_outside(self, node: ast.Call, target: object, sources: frozenset[str], given: _Arguments) -> Value:
        """Call what is not read: it may call the steps and functions it is given, `map` and `filter` certainly do."""
        if isinstance(node.func, ast.Attribute) and node.func.attr in _STORING:
            self._store(node.func.value, given.sources)
            return Value(sources)
        certain = target is map or target is filter
        if id(target) in _BUILTINS and not certain:
            return Value(sources)
        with self._within(loop=certain, dynamic=not certain):
            results = [
                self._call_object(node, function, value, given.without(value))
                for value in given.values
                for function in value.objects
                if _step_in(function) or is_a(function, _LocalFunction) or self._reading.inner(function)
            ]
        return _blend(results) if results else Value(sources)

    def _add(self, node: ast.Call, step: StepLike | None, name: str, sources: frozenset[str]) -> Value:
        kind: Literal["step", "pipeline"] = "pipeline" if is_pipeline(step) else "step"
        place = self._place
        found = Node(name if step else _identifier(name), name, kind, place.branch, place.loop, place.dynamic)
        return self._reading.add((place.path, node, name), found, sources)

    def _enter(self, node: ast.Call, plain: Plain, function: FunctionNode, given: _Arguments) -> Value:
        place = self._inside(node, function)
        given = _with_wrapped(plain, given)
        if place is None or (function in self._reading.barren and not any(value.objects for value in given.values)):
            return Value(given.sources)
        before = self._reading.calls
        frame = _Frame(self._reading, plain.function, local_names(function), replace(place, helper=True))
        frame.env = _parameters(function.args, given, _default_steps(plain.function))
        try:
            result = frame.run(function)
        except (_CutError, RecursionError):
            if self._place.helper:
                raise
            self._reading.complete = False  # the rest of the pipeline itself is still read
            return Value(given.sources)
        if self._reading.calls == before:
            self._reading.barren.add(function)
        return result or Value()

    def _enter_local(self, node: ast.Call, local: _LocalFunction, given: _Arguments) -> Value:
        place = self._inside(node, local.node)
        if place is None:
            return Value(given.sources)
        own = local_names(local.node)
        around = local.frame.env
        frame = _Frame(self._reading, local.frame._function, own | local.frame._local, place)
        frame.env = {name: value for name, value in around.items() if name not in own}
        frame.env.update(_parameters(local.node.args, given, {}))
        result = frame.run(local.node)
        around.update((name, value) for name, value in frame.env.items() if name not in own)
        return result or Value()

    def _inside(self, node: ast.Call, function: FunctionNode) -> _Place | None:
        place = self._place
        if function in place.functions:  # recursion: the first turn has shown its steps
            return None
        if len(place.functions) > MAX_DEPTH:
            self._reading.complete = False
            return None
        return replace(place, path=(*place.path, node), functions=(*place.functions, function))
