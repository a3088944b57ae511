"""A function's source and names, read without running any of them.

Names are looked up as Python would, but statically: no property, descriptor or `__getattr__` of the user's is called,
and no module is imported.
"""

import ast
import builtins
import functools
import importlib.util
import inspect
import linecache
import sys
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Final
from weakref import WeakKeyDictionary

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import describe, is_a, is_node, plain_function

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

UNKNOWN: Final = object()
"""Stands for an object that cannot be found without running something."""

MAX_SOURCE = 4 * 1024 * 1024  # characters; parsing more would be felt at start-up


# From a function to its syntax tree

_definitions: WeakKeyDictionary[FunctionType, FunctionNode | None] = WeakKeyDictionary()


def definition(function: FunctionType) -> FunctionNode | None:
    """Return the syntax tree of `function`; None where its source is not at hand (REPL, `exec`, frozen programs)."""
    if function not in _definitions:
        _definitions[function] = _find(function)
    return _definitions[function]


def _find(function: FunctionType) -> FunctionNode | None:
    code = function.__code__
    source = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if len(source) > MAX_SOURCE:
        return None
    nodes = _functions_in(source).get((code.co_name, code.co_firstlineno), ())
    return nodes[0] if len(nodes) == 1 else _nearest(nodes, code)


@functools.lru_cache(maxsize=8)  # what is read together was defined together
def _functions_in(source: str) -> Mapping[tuple[str, int], tuple[FunctionNode, ...]]:
    """Return the functions of a module by their code's name and first line, as the compiler writes them."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # edited since the import, or absurdly nested
        return {}
    found: dict[tuple[str, int], tuple[FunctionNode, ...]] = {}
    for node in ast.walk(module):
        if isinstance(node, FunctionNode):
            key = _first_line(node)
            found[key] = (*found.get(key, ()), node)
    return found


def _first_line(node: FunctionNode) -> tuple[str, int]:
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _nearest(nodes: Sequence[FunctionNode], code: CodeType) -> FunctionNode | None:
    """Choose among functions that begin on one line: the smallest that encloses most of the code's instructions."""
    found, enclosed = None, 0
    for node in sorted(nodes, key=_extent):
        count = _enclosed(node, code)
        if count > enclosed:
            found, enclosed = node, count
    return found


def _enclosed(node: FunctionNode, code: CodeType) -> int:
    bodies: list[ast.expr | ast.stmt] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
    start = (bodies[0].lineno, bodies[0].col_offset)
    end = (bodies[-1].end_lineno or 0, bodies[-1].end_col_offset or 0)
    count = 0
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or column is None or end_column is None:
            continue
        count += start <= (line, column) and (end_line, end_column) <= end
    return count


def _extent(node: FunctionNode) -> tuple[int, int]:
    return (node.end_lineno or 0) - node.lineno, (node.end_col_offset or 0) - node.col_offset


def parameter_names(arguments: ast.arguments) -> tuple[str, ...]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return tuple(argument.arg for argument in every if argument is not None)


@functools.lru_cache(maxsize=128)
def local_names(node: FunctionNode) -> frozenset[str]:
    """Return the parameters and every name the function binds itself."""
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    bound: set[str] = set()
    outer: set[str] = set()
    for inner in _walk_scope(body):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound.update(alias.asname or _top(alias) for alias in names)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                outer.update(names)
    return frozenset((bound - outer) | {*parameter_names(node.args)})


def _walk_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Walk without entering what has names of its own: functions, classes, the targets of comprehensions."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, FunctionNode | ast.ClassDef):
            continue
        if isinstance(node, ast.comprehension):
            waiting.extend([node.iter, *node.ifs])
        else:
            waiting.extend(ast.iter_child_nodes(node))


# From a name to its object


def resolve(function: FunctionType, name: str) -> object:
    """Return what a name that is not local means inside `function`, or UNKNOWN."""
    if name in function.__code__.co_freevars and function.__closure__ is not None:
        cell = function.__closure__[function.__code__.co_freevars.index(name)]
        try:
            return cell.cell_contents
        except ValueError:  # not bound yet: the enclosing function is still running
            return UNKNOWN
    return function.__globals__.get(name, vars(builtins).get(name, UNKNOWN))


def attribute(owner: object, name: str) -> object:
    """Return `owner.name`, methods bound, or UNKNOWN where a property or `__getattr__` would have to run."""
    found = inspect.getattr_static(owner, name, UNKNOWN)
    cls = owner if is_a(owner, type) else type(owner)
    if is_a(found, staticmethod):
        return found.__func__
    if is_a(found, classmethod):
        return MethodType(found.__func__, cls)
    if is_a(found, FunctionType) and cls is not owner and found is inspect.getattr_static(cls, name, UNKNOWN):
        return MethodType(found, owner)
    return UNKNOWN if type(found) in _COMPUTED else found


# Descriptors that are no callables themselves: what they return is only known by asking.
_COMPUTED = (property, functools.cached_property, MemberDescriptorType, GetSetDescriptorType)


def imported(statement: ast.Import | ast.ImportFrom, function: FunctionType) -> dict[str, object]:
    """Return what an import inside a function binds, as far as the modules are loaded already."""
    if isinstance(statement, ast.Import):
        renamed = {alias.asname: alias.name for alias in statement.names if alias.asname}
        modules = {_top(alias): _top(alias) for alias in statement.names if not alias.asname} | renamed
        return {name: sys.modules.get(module, UNKNOWN) for name, module in modules.items()}
    base = _import_base(statement, function)
    return {alias.asname or alias.name: _member(base, alias.name) for alias in statement.names}


def _top(alias: ast.alias) -> str:
    return alias.name.partition(".")[0]


def _import_base(statement: ast.ImportFrom, function: FunctionType) -> str:
    package = function.__globals__.get("__package__") or ""
    try:
        return importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
    except ImportError:  # a relative import outside a package
        return ""


def _member(module_name: str, name: str) -> object:
    module = sys.modules.get(module_name)
    found = UNKNOWN if module is None else attribute(module, name)
    return sys.modules.get(f"{module_name}.{name}", UNKNOWN) if found is UNKNOWN else found


def mentions_steps(function: FunctionType) -> bool:
    """Say whether `function` names a step or pipeline, or a module and a step or pipeline of that module."""
    names = {name for code in _codes(function.__code__) for name in (*code.co_names, *code.co_freevars)}
    for found in (resolve(function, name) for name in names):
        if is_node(found):
            return True
        if is_a(found, ModuleType) and any(is_node(vars(found).get(name)) for name in names):
            return True
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


# Annotations


def annotations(target: object, only: Collection[str] | None = None) -> dict[str, object]:
    """Return the annotations of a callable's parameters and of its "return", strings evaluated, `Annotated` kept.

    With `only`, just those of these names. A string may name a class of the enclosing function as long as that function
    is still running, which it is while a decorator runs. Raises DefinitionError when an annotation cannot be evaluated.
    """
    plain = plain_function(target)
    if plain is None:
        return {}
    names = _enclosing_names(plain.function)
    return {
        name: _evaluate(plain.function, name, annotation, names)
        for name, annotation in plain.function.__annotations__.items()
        if only is None or name in only
    }


def _evaluate(function: FunctionType, name: str, annotation: object, names: dict[str, object]) -> object:
    holder = SimpleNamespace(__annotations__={name: annotation})
    try:
        hints = typing.get_type_hints(holder, function.__globals__, names, include_extras=True)
    except Exception as error:  # boundary: an annotation is an expression of the user's and may raise anything
        raise DefinitionError(_unresolvable(function, name, annotation, error)) from error
    return hints[name]


def _unresolvable(function: FunctionType, name: str, annotation: object, error: Exception) -> str:
    what = "the return annotation" if name == "return" else f"the annotation of parameter {name!r}"
    text = annotation if isinstance(annotation, str) else repr(annotation)
    start = f"{describe(function)}: {what}, {text!r}, cannot be evaluated: "
    if isinstance(error, NameError) and error.name:
        return (
            f"{start}there is no name {error.name!r} in the module; import it outside `if TYPE_CHECKING:`, "
            "or define it at module level, above the function"
        )
    return f"{start}{type(error).__name__}: {error}"


def _enclosing_names(function: FunctionType) -> dict[str, object]:
    """Return the local names around `function`: those of enclosing functions that are running, then its closure."""
    qualname, found = function.__qualname__, dict[str, object]()
    enclosing = []
    while "<locals>" in qualname:
        qualname = qualname.rpartition(".<locals>")[0]
        enclosing.append(qualname)
    frame = sys._getframe(1) if enclosing else None
    while frame is not None:
        if frame.f_globals is function.__globals__ and frame.f_code.co_qualname in enclosing:
            found = {**frame.f_locals, **found}  # nearer frames win
        frame = frame.f_back
    for name in function.__code__.co_freevars:
        if (value := resolve(function, name)) is not UNKNOWN:
            found[name] = value
    return found
