"""What is found while a function is read: the calls of steps, and what flows between them."""

import ast
from collections import Counter
from dataclasses import dataclass
from types import FunctionType

from asgipipe.pipelines.callables import Plain, StepLike, is_node, plain_function
from asgipipe.pipelines.syntax import FunctionNode, definition, mentions_steps
from asgipipe.pipelines.values import Value

MAX_NODES = 2000
MAX_VISITS = 20_000  # expressions and statements of the function, and as many of all helpers together


class CutError(Exception):
    """The function is too large to be read to its end."""


@dataclass(frozen=True, slots=True)
class Place:
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


@dataclass(frozen=True, slots=True)
class StepCall:
    """One place where a step is called; of a step that is not known, `name` is the text of the call."""

    step: StepLike | None
    name: str
    place: Place


_Key = tuple[tuple[ast.Call, ...], ast.Call, str]


class Reading:
    """What was found so far, and how much of it may be.

    With `follows`, helper functions are read where they are called. `steps` are the calls by their identifiers, `flows`
    the pairs of them of which the second is given the result of the first.
    """

    def __init__(self, *, follows: bool) -> None:
        self.follows = follows
        self.complete = True
        self.package = ""
        self.steps: dict[str, StepCall] = {}
        self.flows: dict[tuple[str, str], None] = {}
        self.calls = 0  # of steps, those of repeated passes included
        self.barren: set[FunctionNode] = set()  # helpers that turned out to have nothing to do with steps
        self._ids: dict[_Key, str] = {}
        self._visits = Counter[bool]()

    def visit(self, *, helper: bool) -> None:
        self._visits[helper] += 1
        if self._visits[helper] > MAX_VISITS:
            raise CutError

    def inner(self, target: object) -> tuple[Plain, FunctionNode] | None:
        """Return the function of `target` if it should be read too: one of the project's, or one that names steps."""
        plain = plain_function(target) if self.follows and not is_node(target) else None
        if plain is None or not (package_of(plain.function) == self.package or mentions_steps(plain.function)):
            return None
        node = definition(plain.function)
        return None if node is None else (plain, node)

    def add(self, node: ast.Call, call: StepCall, identifier: str, sources: frozenset[str]) -> Value:
        """Add a call, unless an earlier pass met it, and what flows into it; return its result."""
        self.calls += 1
        key = (call.place.path, node, call.name)
        if key not in self._ids:
            if len(self.steps) >= MAX_NODES:
                raise CutError
            self._ids[key] = self._free(identifier)
            self.steps[self._ids[key]] = call
        found = self._ids[key]
        self.flows.update(dict.fromkeys((source, found) for source in sorted(sources) if source != found))
        return Value(frozenset({found}))

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self.steps:
            number += 1
            free = f"{name}_{number}"
        return free


def package_of(function: FunctionType) -> str:
    return str(function.__globals__.get("__name__", "")).partition(".")[0]
