from __future__ import annotations

import ast
import functools
import json
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from asgipipe.errors import DefinitionError
from asgipipe.pipelines import syntax
from asgipipe.pipelines.syntax import UNKNOWN, annotations, attribute, definition, resolve

if TYPE_CHECKING:
    from decimal import Decimal


def undecorated(function):
    return function


# Finding the source


def simple(x):
    return x


@undecorated
@functools.lru_cache(maxsize=None) if False else undecorated
def decorated(x):
    return x


def with_odd_indentation(x):
    text = """
at the margin
  """
    return x, text


async def coroutine(x):
    return x


class Holder:
    def method(self, x):
        def inner(y):
            return y

        return inner

    @staticmethod
    def static(x):
        return x

    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    "function",
    [simple, decorated, with_odd_indentation, coroutine, Holder.method, Holder().method(1), Holder.static],
    ids=lambda function: function.__name__,
)
def test_the_syntax_tree_of_a_function_is_found(function):
    """Decorators, indentation, nesting and texts at the margin make no difference."""
    node = definition(function)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    assert node.name == function.__name__
    assert definition(function) is node


LAMBDAS = """
def outer(): return lambda x: (lambda y: y.inner)
first, second = lambda x: x.first, lambda x: x.second
nested = lambda x: lambda y: y.nested
"""


def _executed(source: str, filename: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(compile(source, filename, "exec"), scope)  # noqa: S102  # source of the test's own
    return scope


@pytest.fixture
def lambdas(tmp_path):
    file = tmp_path / "lambdas.py"
    file.write_text(LAMBDAS)
    return types.SimpleNamespace(**_executed(LAMBDAS, str(file)))


def test_lambdas_on_one_line_are_told_apart(lambdas):
    """Which of several lambdas on a line it is, is known from the places of its instructions."""
    assert _body(lambdas.first) == "x.first"
    assert _body(lambdas.second) == "x.second"
    assert _body(lambdas.nested) == "lambda y: y.nested"
    assert _body(lambdas.nested(1)) == "y.nested"
    assert _body(lambdas.outer()) == "lambda y: y.inner"
    assert _body(lambdas.outer()(1)) == "y.inner"


def _body(function):
    node = definition(function)
    assert isinstance(node, ast.Lambda)
    return ast.unparse(node.body)


def test_lambdas_that_cannot_be_told_apart_have_no_tree(lambdas):
    """Without the places in the code (`-X no_debug_ranges`), two lambdas on a line are not guessed at."""
    bare = lambdas.first.__code__.replace(co_linetable=b"\xff" * 9)  # "no place", nine times
    assert definition(types.FunctionType(bare, {})) is None


def test_there_is_no_tree_without_a_file():
    """A function made from a string has no source to read."""
    assert definition(_executed("def f(): pass", "<string>")["f"]) is None


@pytest.mark.parametrize("now", ["", "def g(): pass\n", "def f(:\n", "x = 1\ndef f(): pass\n", "\0"])
def test_there_is_no_tree_when_the_file_has_changed(tmp_path, now):
    """A file that was emptied, broken or moved about since the import gives nothing rather than something else."""
    file = tmp_path / "changed.py"
    function = _executed("def f(): pass\n", str(file))["f"]
    file.write_text(now)
    assert definition(function) is None


def test_a_huge_file_is_not_read(monkeypatch):
    """Above the limit of size nothing is parsed."""
    monkeypatch.setattr(syntax, "MAX_SOURCE", 10)
    monkeypatch.setattr(syntax, "_definitions", {})
    assert definition(simple) is None


# Names


def make_closure():
    bound = 1

    def inner():
        return bound, unbound, json, len, nowhere  # noqa: F821  # what is tested

    def inner_names():
        return {name: resolve(inner, name) for name in ("bound", "unbound", "json", "len", "nowhere")}

    early = inner_names()
    unbound = 2
    return early, inner_names()


def test_names_are_resolved_as_python_does():
    """Closure, then globals, then builtins; a variable that is not bound yet is unknown, not an error."""
    early, late = make_closure()
    assert early == {"bound": 1, "unbound": UNKNOWN, "json": json, "len": len, "nowhere": UNKNOWN}
    assert late["unbound"] == 2


class Owner:
    __slots__ = ("slot",)
    plain = 1

    def method(self): ...

    @classmethod
    def of_class(cls): ...

    @staticmethod
    def static(): ...

    @property
    def computed(self):
        raise AssertionError("a property ran")

    @functools.cached_property
    def cached(self):
        raise AssertionError("a cached property ran")

    def __getattr__(self, name):
        raise AssertionError("__getattr__ ran")


def test_attributes_are_read_without_running_anything():
    """Plain values and methods, bound, are found; what only code could tell is unknown."""
    owner = Owner()
    assert attribute(owner, "plain") == 1
    assert attribute(owner, "method") == owner.method
    assert attribute(Owner, "method") is Owner.method
    assert attribute(owner, "of_class") == attribute(Owner, "of_class") == Owner.of_class
    assert attribute(owner, "static") is Owner.static
    assert attribute(json, "dumps") is json.dumps
    assert [attribute(owner, name) for name in ("computed", "cached", "slot", "missing")] == [UNKNOWN] * 4


BINDING = """
def binds(a, /, b, *c, d=1, **e):
    global g
    f = g = 1
    for h, (i, *j) in []: pass
    with f as k: pass
    try: pass
    except OSError as l: pass
    import m.n, o as p
    from q import r as s
    def t(): inner = 1
    class U: inner = 1
    v = [inner for inner in f if (w := f)]
    match f:
        case {"x": x, **y}: pass
        case [*z] as aa: pass
"""


def test_the_names_a_function_binds():
    """Every statement that binds a name counts; comprehensions, inner functions and `global` names do not."""
    node = ast.parse(BINDING).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert syntax.local_names(node) == {*"abcdefhijklmpstvwxyzU", "aa"}


def test_an_import_that_would_fail_binds_nothing_known():
    """A relative import outside a package is an error when it runs, not when it is read."""
    statement = ast.parse("from . import sibling").body[0]
    assert isinstance(statement, ast.ImportFrom)
    outside = types.FunctionType(simple.__code__, {})
    assert syntax.imported(statement, outside) == {"sibling": UNKNOWN}


# Annotations


@dataclass
class Item:
    name: str


def annotated(item: Item, *more: list[Item], note: Annotated[str, "kept"] = "") -> Item | None: ...


def test_annotations_that_are_strings_are_evaluated():
    """`from __future__ import annotations` makes no difference, and Annotated keeps what is in it."""
    assert annotations(annotated) == {
        "item": Item,
        "more": list[Item],
        "note": Annotated[str, "kept"],
        "return": Item | None,
    }


def test_annotations_may_name_local_classes():
    """A class of the enclosing function is found while that function runs, which it does when decorators run."""

    @dataclass
    class Local:
        name: str

    def uses(local: Local) -> list[Local]: ...

    def make():
        def deeper(local: Local, inner: Inner): ...

        class Inner: ...

        assert annotations(deeper) == {"local": Local, "inner": Inner}

    make()
    assert annotations(uses) == {"local": Local, "return": list[Local]}


def _uses_closure():
    class Local: ...

    def uses(local: Local):
        return Local

    return uses, Local


def test_annotations_may_name_what_the_function_itself_uses():
    """A class that the function closes over is found even after the enclosing function has returned."""
    uses, local = _uses_closure()
    assert annotations(uses) == {"local": local}


def only_for_checkers(price: Decimal): ...


def misspelt_return() -> Itm: ...  # noqa: F821  # what is tested


def broken(x: Item.missing): ...


def no_type(x: "3 +"): ...  # noqa: F722  # what is tested


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (only_for_checkers, "only_for_checkers: the annotation of parameter 'price', 'Decimal', .* no name 'Decimal' "),
        (
            misspelt_return,
            "misspelt_return: the return annotation, 'Itm', cannot be evaluated: there is no name 'Itm' ",
        ),
        (broken, "broken: the annotation of parameter 'x', 'Item.missing', .*: AttributeError: "),
        (no_type, "no_type: the annotation of parameter 'x', .*: SyntaxError: "),
    ],
)
def test_an_annotation_that_cannot_be_evaluated_is_an_error(function, message):
    """The error names function, parameter and the name that is missing, and says what to do."""
    with pytest.raises(DefinitionError, match=message):
        annotations(function)


def test_callables_of_every_kind_have_annotations():
    """Partials, methods and callable objects have those of their function, builtins have none."""
    assert annotations(functools.partial(annotated, 1))["item"] is Item
    assert annotations(functools.wraps(annotated)(lambda: None))["item"] is Item
    assert annotations(len) == annotations(int) == annotations(3) == {}
