"""What flows where in a function, read from its syntax tree without running anything.

The tree is walked as the program would run, with values in place of objects: of an expression is known which steps'
results are in it, and which Python objects it may be. Branches are walked one after the other and joined, loops until
nothing new is learnt, helper functions where they are called.
"""

import ast
import builtins
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Final

from asgipipe.pipelines.callables import Plain, StepLike, is_a, plain_function
from asgipipe.pipelines.calls import (
    OPAQUE,
    Arguments,
    LocalFunction,
    constant_of,
    default_steps,
    known_call,
    members_of,
    parameters_of,
    step_in,
    with_wrapped,
)
from asgipipe.pipelines.reading import CutError, Place, Reading, StepCall, package_of
from asgipipe.pipelines.syntax import UNKNOWN, FunctionNode, definition, imported, local_names, resolve
from asgipipe.pipelines.values import (
    Env,
    Origin,
    Value,
    blend,
    item_of,
    join,
    join_names,
    settled,
    sources_of,
    turn_of,
    unpacked,
)

MAX_DEPTH = 8  # helpers calling helpers
MAX_PASSES = 5  # through a loop's body; two are enough for most
MAX_LABEL = 60  # characters of a call that is not resolved

_BUILTINS: Final = frozenset(map(id, vars(builtins).values()))

# Methods that put their arguments into the object they are called on.
_STORING = frozenset(
    ["add", "append", "appendleft", "extend", "extendleft", "insert", "put", "put_nowait", "setdefault", "update"]
)


def read(target: Callable[..., object], reading: Reading) -> Value | None:
    """Walk through the function in `target` and return what is known of the value that it returns.

    None where nothing is: no source, or no return statement.
    """
    plain = plain_function(target)
    node = None if plain is None else definition(plain.function)
    if plain is None or node is None:
        reading.complete = False
        return None
    reading.package = package_of(plain.function)
    frame = Frame(reading, plain.function, local_names(node), Place(functions=(node,)))
    frame.env = parameters_of(node.args, with_wrapped(plain, Arguments()), default_steps(plain.function))
    try:
        return frame.run(node)
    except (CutError, RecursionError):
        reading.complete = False
        return None


def returned_value(function: Callable[..., object]) -> Value | None:
    """Return what is known of the value that `function` itself returns, its return statements joined.

    Helpers are not followed: one that is defined further down in the module would count or not, depending on when this
    is asked.
    """
    return read(function, Reading(follows=False))


@dataclass(frozen=True, slots=True)
class _End:
    """The names at the end of a block, and whether the program goes on from there."""

    env: Env
    goes_on: bool


class Frame:
    """The reading of one function's body: expressions have values, statements say whether the program goes on."""

    def __init__(self, reading: Reading, function: FunctionType, local: frozenset[str], place: Place) -> None:
        self.env: Env = {}
        self._reading = reading
        self._function = function
        self._local = local
        self._place = place
        self._returned: list[Value] = []
        self._yielded: list[Value] = []
        self._exits: list[list[Env]] = []

    def run(self, node: FunctionNode) -> Value | None:
        """Return what calling the function gives, None if it has no return statement."""
        if isinstance(node, ast.Lambda):
            return self.expression(node.body)
        self._block(node.body)
        if self._yielded:
            return blend([*self._yielded, *self._returned])
        return join(self._returned) if self._returned else None

    def _block(self, statements: Iterable[ast.stmt]) -> bool:
        for node in statements:
            self._reading.visit(helper=self._place.helper)
            if not self._statement(node):
                return False
        return True

    def _branch(self, statements: Iterable[ast.stmt], env: Env) -> _End:
        before, self.env = self.env, dict(env)
        goes_on = self._block(statements)
        end, self.env = _End(self.env, goes_on), before
        return end

    def _meet(self, ends: Sequence[_End]) -> bool:
        """Go on with what the branches that end here have in common; say whether there are any."""
        going = [end.env for end in ends if end.goes_on]
        self.env = join_names(going or [end.env for end in ends])
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
        self._bind(node.target, blend([before, value]))
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
            anywhere = join_names([self.env, body.env])  # a handler takes over after any statement of the body
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
        each = turn_of(self.expression(node.iter))

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
                self.env = join_names([before, *ends])
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
        self.env[node.name] = Value(objects=(OPAQUE,))
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
        return blend([self.expression(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)])

    @_value.register
    def _name(self, node: ast.Name) -> Value:
        if node.id in self.env:
            return self.env[node.id]
        found = UNKNOWN if node.id in self._local else resolve(self._function, node.id)
        return Value(objects=() if found is UNKNOWN else (found,))

    @_value.register
    def _attribute(self, node: ast.Attribute) -> Value:
        return members_of(self.expression(node.value), node.attr)

    @_value.register
    def _subscript(self, node: ast.Subscript) -> Value:
        value, index = self.expression(node.value), self.expression(node.slice)
        constant = constant_of(node.slice)
        item = None if constant is UNKNOWN else item_of(value, constant)
        return blend([value, index]) if item is None else item

    @_value.register
    def _display(self, node: ast.Tuple | ast.List) -> Value:
        items = tuple(self.expression(item) for item in node.elts)
        if any(isinstance(item, ast.Starred) for item in node.elts):
            return blend(items)
        return Value(sources_of(items), items=items, is_tuple=isinstance(node, ast.Tuple))

    @_value.register
    def _await(self, node: ast.Await) -> Value:
        return settled(self.expression(node.value))

    @_value.register
    def _walrus(self, node: ast.NamedExpr) -> Value:
        value = self.expression(node.value)
        self._bind(node.target, value)
        return value

    @_value.register
    def _conditional(self, node: ast.IfExp) -> Value:
        self.expression(node.test)
        with self._within(branch=True):
            return join([self.expression(node.body), self.expression(node.orelse)])

    @_value.register
    def _and_or(self, node: ast.BoolOp) -> Value:
        first = self.expression(node.values[0])
        with self._within(branch=True):
            return join([first, *(self.expression(value) for value in node.values[1:])])

    @_value.register
    def _lambda(self, node: ast.Lambda) -> Value:
        return self._local_function(node)

    def _local_function(self, node: FunctionNode) -> Value:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.expression(default)
        return Value(objects=(LocalFunction(node, self),))

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
                self._bind(generator.target, turn_of(self.expression(generator.iter) if index else iterable))
                bound.update(name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name))
                for condition in generator.ifs:
                    self.expression(condition)
            value = blend([self.expression(result) for result in results])
        kept = {name: found for name, found in self.env.items() if name not in bound}
        self.env = {**kept, **{name: before[name] for name in bound if name in before}}
        return value

    # Calls

    @_value.register
    def _call(self, node: ast.Call) -> Value:
        method = node.func if isinstance(node.func, ast.Attribute) else None
        owner = Value() if method is None else self.expression(method.value)
        callee = self.expression(node.func) if method is None else members_of(owner, method.attr)
        given = self._arguments(node)
        if callee.objects:
            with self._within(branch=len(callee.objects) > 1):
                return join([self._call_object(node, target, callee, given) for target in callee.objects])
        if method is None:
            with self._within(dynamic=True):
                return self._add(node, None, ast.unparse(node.func)[:MAX_LABEL], callee.sources | given.sources)
        if method.attr == "result" and owner.origins and all(origin.submitted for origin in owner.origins):
            return settled(owner)
        return self._call_outside(node, UNKNOWN, callee.sources | given.sources, given)

    def _arguments(self, node: ast.Call) -> Arguments:
        positional = tuple(self.expression(argument) for argument in node.args)
        keywords = [(keyword.arg, self.expression(keyword.value)) for keyword in node.keywords]
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        return Arguments(
            () if starred else positional,
            {name: value for name, value in keywords if name is not None},
            sources_of([*positional, *(value for _, value in keywords)]),
            spread=starred or any(name is None for name, _ in keywords),
        )

    def _call_object(self, node: ast.Call, target: object, callee: Value, given: Arguments) -> Value:
        sources = callee.sources | given.sources
        if step := step_in(target):
            return self._call_step(node, step, sources)
        if is_a(target, LocalFunction):
            return self._enter_local(node, target, given)
        known = known_call(target, node, given, sources)
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

    def _call_outside(self, node: ast.Call, target: object, sources: frozenset[str], given: Arguments) -> Value:
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
                if step_in(function) or is_a(function, LocalFunction) or self._reading.inner(function)
            ]
        return blend(results) if results else Value(sources)

    def _add(self, node: ast.Call, step: StepLike | None, name: str, sources: frozenset[str]) -> Value:
        call = StepCall(step, name, self._place)
        return self._reading.add(node, call, name if step else _identifier(name), sources)

    def _enter(self, node: ast.Call, plain: Plain, function: FunctionNode, given: Arguments) -> Value:
        place = self._inside(node, function)
        given = with_wrapped(plain, given)
        if place is None or (function in self._reading.barren and not any(value.objects for value in given.values)):
            return Value(given.sources)
        before = self._reading.calls
        frame = Frame(self._reading, plain.function, local_names(function), replace(place, helper=True))
        frame.env = parameters_of(function.args, given, default_steps(plain.function))
        try:
            result = frame.run(function)
        except (CutError, RecursionError):
            if self._place.helper:
                raise
            self._reading.complete = False  # the rest of the pipeline itself is still read
            return Value(given.sources)
        if self._reading.calls == before:
            self._reading.barren.add(function)
        return result or Value()

    def _enter_local(self, node: ast.Call, local: LocalFunction, given: Arguments) -> Value:
        place = self._inside(node, local.node)
        if place is None:
            return Value(given.sources)
        own = local_names(local.node)
        around = local.frame.env
        frame = Frame(self._reading, local.frame._function, own | local.frame._local, place)
        frame.env = {name: value for name, value in around.items() if name not in own}
        frame.env.update(parameters_of(local.node.args, given, {}))
        result = frame.run(local.node)
        around.update((name, value) for name, value in frame.env.items() if name not in own)
        return result or Value()

    def _inside(self, node: ast.Call, function: FunctionNode) -> Place | None:
        place = self._place
        if function in place.functions:  # recursion: the first turn has shown its steps
            return None
        if len(place.functions) > MAX_DEPTH:
            self._reading.complete = False
            return None
        return replace(place, path=(*place.path, node), functions=(*place.functions, function))


def _identifier(label: str) -> str:
    """Return the name that a call which is not resolved begins with: `steps` of `steps[i]`."""
    found = re.match(r"\w+", label)
    return found[0] if found else "call"


def _flow(env: Env) -> dict[str, frozenset[str]]:
    return {name: value.sources for name, value in env.items()}
