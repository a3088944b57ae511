import asyncio
import contextlib
import email
import functools
import importlib
import inspect
import json
import math
import operator
import pkgutil
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from asgipipe.pipelines import reading
from asgipipe.pipelines.graph import Graph, read_graph
from asgipipe.pipelines.pipeline import pipeline as real_pipeline
from asgipipe.pipelines.step import step as real_step


@dataclass(frozen=True)
class FakeStep:
    """As much of a step as the graph looks at; calling it would be an error."""

    function: Callable[..., Any]
    name: str
    output_names: tuple[str, ...] = ("output",)
    __asgipipe_step__ = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("reading a graph ran a step")

    submit = map = __call__

    def with_options(self, **options: Any) -> "FakeStep":
        return replace(self, **options)


class FakePipeline(FakeStep):
    __asgipipe_step__ = False
    __asgipipe_pipeline__ = True


def step(function: Callable[..., Any]) -> FakeStep:
    return FakeStep(function, function.__name__)


@step
def fetch(*inputs: Any) -> Any: ...


@step
def clean(*inputs: Any) -> Any: ...


@step
def score(*inputs: Any) -> Any: ...


def _train(*inputs: Any) -> Any: ...


train = FakePipeline(_train, "train")
STEPS = {"fetch": fetch, "clean": clean}
IN_ORDER = [fetch, clean]
namespace = types.SimpleNamespace(clean=clean, inner=types.SimpleNamespace(score=score))
quick_clean = functools.partial(clean, "quickly")


def edges(graph: Graph) -> set[str]:
    return {f"{edge.source}>{edge.target}" for edge in graph.edges}


def ids(graph: Graph) -> list[str]:
    return [node.id for node in graph.nodes]


# Nodes and edges


def chain(x):
    y = fetch(x)
    return score(clean(y))


def test_nodes_stand_in_the_order_of_the_calls_and_edges_follow_the_data():
    """A chain of steps gives its nodes in order and one edge between neighbours, in the JSON form of the contract."""
    flags = {"branch": False, "loop": False, "dynamic": False}
    assert read_graph(chain).as_json() == {
        "nodes": [{"id": name, "step": name, "kind": "step", **flags} for name in ("fetch", "clean", "score")],
        "edges": [{"source": "fetch", "target": "clean"}, {"source": "clean", "target": "score"}],
        "dynamic": False,
    }


def test_a_graph_is_json():
    """The JSON form is made of plain lists and dictionaries."""
    shown = read_graph(chain).as_json()
    assert json.loads(json.dumps(shown)) == shown


def independent(x):
    return fetch(x), clean(x)


def through_unpacking(x):
    (_, b), c = (fetch(x), clean(x)), 3
    return score(b, c)


def through_star_unpacking(x):
    first, *rest = [fetch(x), clean(x)]
    return score(rest, first)


def through_f_string(x):
    text = f"about {fetch(x)!r}"
    return clean(text)


def through_operators(x):
    total = fetch(x) + 1
    total += clean(x)
    return score(-total)


def through_attributes_and_items(x):
    page = fetch(x)
    return clean(page.body["lines"][0:2])


def through_item_of_a_tuple(x):
    both = (fetch(x), clean(x))
    return score(both[1])


def through_comprehension(x):
    words = [word.strip() for word in fetch(x) if word]
    return clean({word: len(word) for word in words})


def through_dictionary(x):
    return clean({"page": fetch(x), **x})


def through_builtins_and_methods(x):
    return clean(len(str(fetch(x)).strip().split(",")))


def through_walrus(x):
    if (page := fetch(x)) is not None:
        return clean(page)
    return None


def through_keyword_and_spread(x):
    options = {"page": fetch(x)}
    return score(*[clean(x)], **options)


def through_appending(x):
    found = []
    found.append(fetch(x))
    return clean(found)


def through_item_assignment(x):
    found = {}
    found["page"] = fetch(x)
    return clean(found)


def through_attribute_assignment(x):
    x.page = fetch(x)
    return clean(x)


def through_with(x):
    with fetch(x) as page:
        return clean(page)


def through_match(x):
    match fetch(x):
        case {"body": body, **rest}:
            return clean(body, rest)
        case [first, *others] as everything:
            return score(first, others, everything)


def through_yield(x):
    page = fetch(x)
    answer = yield page
    yield from clean(page, answer)


def through_submit(x):
    future = fetch.submit(x)
    return clean.submit(future.result()).result()


def through_options(x):
    page = fetch.with_options(retries=3)(x)
    return clean.with_options(timeout=1).submit(page)


async def through_await(x):
    page = await fetch(x)
    return await clean(page)


async def through_gather(x):
    _, b = await asyncio.gather(fetch(x), clean(x))
    return await score(b)


async def through_tasks(x):
    async with asyncio.TaskGroup() as group:
        group.create_task(fetch(x))
        text = group.create_task(clean(x))
    return score(text.result())


def through_partial(x):
    prepared = functools.partial(score, fetch(x))
    return prepared(clean(x))


def through_annotated_assignment(x):
    page: str
    page: str = fetch(x)
    return clean(page)


def through_nameless_object(x):
    x.copy().page = fetch(x)
    return clean(x)


def into_an_exception(x):
    page = fetch(x)
    if not page:
        raise ValueError(clean(page)) from score(page)
    assert page, clean(page)


def overwritten(x):
    page = fetch(x)
    page = "none"
    return clean(page)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (independent, set()),
        (through_unpacking, {"clean>score"}),
        (through_star_unpacking, {"fetch>score", "clean>score"}),
        (through_f_string, {"fetch>clean"}),
        (through_operators, {"fetch>score", "clean>score"}),
        (through_attributes_and_items, {"fetch>clean"}),
        (through_item_of_a_tuple, {"clean>score"}),
        (through_comprehension, {"fetch>clean"}),
        (through_dictionary, {"fetch>clean"}),
        (through_builtins_and_methods, {"fetch>clean"}),
        (through_walrus, {"fetch>clean"}),
        (through_keyword_and_spread, {"fetch>score", "clean>score"}),
        (through_appending, {"fetch>clean"}),
        (through_item_assignment, {"fetch>clean"}),
        (through_attribute_assignment, {"fetch>clean"}),
        (through_with, {"fetch>clean"}),
        (through_match, {"fetch>clean", "fetch>score"}),
        (through_yield, {"fetch>clean"}),
        (through_submit, {"fetch>clean"}),
        (through_options, {"fetch>clean"}),
        (through_await, {"fetch>clean"}),
        (through_gather, {"clean>score"}),
        (through_tasks, {"clean>score"}),
        (through_partial, {"fetch>score", "clean>score"}),
        (through_annotated_assignment, {"fetch>clean"}),
        (through_nameless_object, set()),
        (into_an_exception, {"fetch>clean", "fetch>score", "fetch>clean_2"}),
        (overwritten, set()),
    ],
)
def test_edges_follow_a_result_through_ordinary_python(function, expected):
    """An edge is drawn for every way a step's result takes into another step's arguments, and for nothing else."""
    graph = read_graph(function)
    assert edges(graph) == expected
    assert not graph.dynamic


def twice(x):
    return clean(clean(fetch(x)))


def renamed(x):
    return clean.with_options(name="polish")(clean(x))


def test_a_second_call_is_a_node_of_its_own():
    """The ids of several calls of one step are numbered, the step stays the same."""
    graph = read_graph(twice)
    assert [(node.id, node.step) for node in graph.nodes] == [
        ("fetch", "fetch"),
        ("clean", "clean"),
        ("clean_2", "clean"),
    ]
    assert edges(graph) == {"fetch>clean", "clean>clean_2"}


def test_a_step_is_shown_by_the_name_its_options_give_it():
    """`with_options(name=...)` names the node."""
    assert ids(read_graph(renamed)) == ["clean", "polish"]


def nested(x):
    return score(train(fetch(x)))


def test_a_pipeline_inside_a_pipeline_is_one_node():
    """A nested pipeline is a node of its own kind; its steps are not shown."""
    graph = read_graph(nested)
    assert [(node.id, node.kind) for node in graph.nodes] == [
        ("fetch", "step"),
        ("train", "pipeline"),
        ("score", "step"),
    ]
    assert edges(graph) == {"fetch>train", "train>score"}


# Branches and loops


def with_if(x):
    page = fetch(x)
    if page:
        page = clean(page)
    return score(page)


def with_else(x):
    if x:
        page = fetch(x)
    else:
        page = clean(x)
    return score(page)


def with_early_return(x):
    page = None
    if x:
        page = fetch(x)
        return {"page": page}
    return score(page)


def with_conditional_expression(x):
    return score(fetch(x) if x else clean(x))


def with_or(x):
    return score(fetch(x) or clean(x))


def with_try(x):
    try:
        page = fetch(x)
    except OSError:
        page = clean(x)
    finally:
        x.close()
    return score(page)


def with_match(x):
    match x:
        case "a":
            page = fetch(x)
        case _:
            page = clean(x)
    return score(page)


@pytest.mark.parametrize(
    ("function", "conditional", "expected"),
    [
        (with_if, {"clean"}, {"fetch>clean", "fetch>score", "clean>score"}),
        (with_else, {"fetch", "clean"}, {"fetch>score", "clean>score"}),
        (with_early_return, {"fetch"}, set()),
        (with_conditional_expression, {"fetch", "clean"}, {"fetch>score", "clean>score"}),
        (with_or, {"clean"}, {"fetch>score", "clean>score"}),
        (with_try, {"fetch", "clean"}, {"fetch>score", "clean>score"}),
        (with_match, {"fetch", "clean"}, {"fetch>score", "clean>score"}),
    ],
)
def test_branches_are_marked_and_joined(function, conditional, expected):
    """What is inside a branch is marked, and what comes after it may get the result of either."""
    graph = read_graph(function)
    assert {node.id for node in graph.nodes if node.branch} == conditional
    assert edges(graph) == expected
    assert not any(node.loop for node in graph.nodes)


def with_for(x):
    pages = set()
    for url in fetch(x):
        pages.add(clean(url))
    return score(pages)


def with_while(x):
    while fetch(x):
        x = clean(x)
    return score(x)


def with_comprehension(x):
    return score([clean(url) for url in fetch(x)])


def with_map(x):
    return score(clean.map(fetch(x)).result())


def with_builtin_map(x):
    return score(list(map(clean, fetch(x))))


def with_break(x):
    page = None
    for url in x:
        page = fetch(url)
        if page:
            break
        page = clean(url)
    return score(page)


@pytest.mark.parametrize(
    ("function", "repeated", "expected"),
    [
        (with_for, {"clean"}, {"fetch>clean", "clean>score"}),
        (with_while, {"fetch", "clean"}, {"clean>fetch", "clean>score"}),
        (with_comprehension, {"clean"}, {"fetch>clean", "clean>score"}),
        (with_map, {"clean"}, {"fetch>clean", "clean>score"}),
        (with_builtin_map, {"clean"}, {"fetch>clean", "clean>score"}),
        (with_break, {"fetch", "clean"}, {"fetch>score", "clean>score"}),
    ],
)
def test_loops_are_marked(function, repeated, expected):
    """What may run several times is marked; what a loop is over, and what comes after it, is not."""
    graph = read_graph(function)
    assert {node.id for node in graph.nodes if node.loop} == repeated
    assert edges(graph) == expected
    assert not graph.dynamic


def agent(goal):
    state = goal
    for _ in range(10):
        thought = fetch(state)
        state = clean(thought)
    return state


def test_a_loop_hands_results_to_its_next_turn():
    """An edge points backwards where the next turn uses what this one made, and the nodes are not repeated."""
    graph = read_graph(agent)
    assert ids(graph) == ["fetch", "clean"]
    assert edges(graph) == {"fetch>clean", "clean>fetch"}


def pipeline_of_turns(items):
    newest = older = oldest = None
    for item in items:
        score(oldest)
        oldest, older, newest = older, newest, fetch(item)


def test_a_result_is_followed_through_several_turns():
    """What a loop passes from turn to turn arrives."""
    assert edges(read_graph(pipeline_of_turns)) == {"fetch>score"}


def with_steps_in_a_list(x):
    for stage in [fetch, clean]:
        x = stage(x)
    return x


def with_steps_in_a_global_list(x):
    for stage in IN_ORDER:
        x = stage(x)
    return x


def with_chosen_step(x):
    stage = fetch if x else clean
    return stage(x)


@pytest.mark.parametrize("function", [with_steps_in_a_list, with_steps_in_a_global_list, with_chosen_step])
def test_a_call_of_one_of_several_known_steps_shows_each(function):
    """Where a name may be one of several steps, all are shown, as branches."""
    graph = read_graph(function)
    assert ids(graph) == ["fetch", "clean"]
    assert all(node.branch and not node.dynamic for node in graph.nodes)


# Names


class Service:
    clean = clean

    def __init__(self) -> None:
        self.fetch = fetch

    @property
    def loaded(self) -> Any:
        raise AssertionError("reading a graph ran a property")

    def helper(self, x):
        return self.clean(x)

    @staticmethod
    def static(x):
        return score(x)

    @classmethod
    def of_class(cls, x):
        return cls.clean(x)

    def run(self, x):
        return self.clean(self.fetch(x), self.loaded.value)

    def run_helpers(self, x):
        return self.static(self.of_class(self.helper(x)))

    def __call__(self, x):
        return self.clean(x)


def by_attribute(x):
    return namespace.inner.score(namespace.clean(x))


def by_constant_key(x):
    return STEPS["clean"](IN_ORDER[-2](x))


def by_local_name(x):
    polish = clean
    return polish(x)


def by_import(x):
    import tests_graph_steps.inner
    from tests_graph_steps import clean as polish
    from tests_graph_steps import inner

    return tests_graph_steps.inner.score(inner.score(polish(x)))


def by_default(x, stage=clean):
    return stage(x)


def make_closure():
    local = clean

    def inner(x):
        return local(x)

    return inner


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_attribute, ["clean", "score"]),
        (by_constant_key, ["fetch", "clean"]),
        (by_local_name, ["clean"]),
        (by_default, ["clean"]),
        (make_closure(), ["clean"]),
        (lambda x: score(clean(x)), ["clean", "score"]),
        (Service().run, ["fetch", "clean"]),
        (Service().run_helpers, ["clean", "clean_2", "score"]),
        (Service(), ["clean"]),
        (functools.partial(chain, 3), ["fetch", "clean", "score"]),
        (functools.partial(lambda stage, x: stage(x), clean), ["clean"]),
        (functools.wraps(chain)(lambda *args: None), ["fetch", "clean", "score"]),
        (step(chain), ["fetch", "clean", "score"]),
        (lambda x: quick_clean(x), ["clean"]),  # noqa: PLW0108  # the lambda is what is read
    ],
)
def test_steps_are_found_by_every_way_to_name_them(function, expected):
    """Globals, closures, attributes, `self`, defaults, constant keys, partials and wrappers lead to the step."""
    graph = read_graph(function)
    assert ids(graph) == expected
    assert not graph.dynamic


def test_steps_are_found_through_imports_in_the_function(monkeypatch):
    """An import inside a function is followed to modules that are loaded, and imports nothing."""
    package, inner = types.ModuleType("tests_graph_steps"), types.ModuleType("tests_graph_steps.inner")
    monkeypatch.setattr(package, "clean", clean, raising=False)
    monkeypatch.setattr(inner, "score", score, raising=False)
    monkeypatch.setattr(package, "inner", inner, raising=False)
    unloaded = read_graph(by_import)
    monkeypatch.setitem(sys.modules, "tests_graph_steps", package)
    monkeypatch.setitem(sys.modules, "tests_graph_steps.inner", inner)
    assert ids(read_graph(by_import)) == ["clean", "score", "score_2"]
    assert [(node.id, node.dynamic) for node in unloaded.nodes] == [("polish", True)]


def shadowed(fetch):
    clean = len
    return clean([score(x) for x in fetch])


def test_local_names_hide_global_steps():
    """A parameter or variable with the name of a step is not that step."""
    assert ids(read_graph(shadowed)) == ["score"]


def test_reading_twice_gives_equal_graphs():
    """Ids are stable."""
    assert read_graph(with_for) == read_graph(with_for)


# Helpers


def enrich(x):
    """A plain function of the project that calls a step."""
    return _deeper(clean(x))


def _deeper(x):
    return score(x)


def with_helper(x):
    return enrich(fetch(x))


def with_helper_twice(x):
    return enrich(enrich(x))


def with_helper_in_a_loop_and_after(x):
    while x:
        x = enrich(x)
    return enrich(x)


def with_plain_helper(x):
    return clean(_only(_only(fetch(x))), _only(len)(x))


def _only(x):
    return x


def with_variadic_helper(x):
    return _gather(x, fetch(x), more=clean(x))


def _gather(first, *others, **named):
    return score(others, named) if first else None


def with_keyword_only_default(x):
    return _keyword_only(x)


def _keyword_only(x, *, stage=clean):
    return stage(x)


def with_local_default_and_recursion(x):
    def again(value, start=fetch(x)):  # noqa: B008  # what is tested
        return again(clean(value), start)

    again.calls.clear()
    return again(x)


def with_passed_step(x):
    return _apply(clean, fetch(x))


def _apply(stage, x):
    return stage(x)


def with_local_function(x):
    found = []

    def collect(url):
        found.append(clean(url))

    collect(fetch(x))
    return score(found)


def with_lambda(x):
    polish = lambda value: clean(value)  # noqa: E731, PLW0108  # a lambda with a name is what is tested
    return polish(fetch(x))


def recursive(x):
    return recursive(clean(x)) if x else x


def ping(x):
    return pong(clean(x))


def pong(x):
    return ping(score(x))


@contextlib.contextmanager
def opened(x) -> Iterator[Any]:
    yield fetch(x)


def with_context_manager(x):
    with opened(x) as page:
        return clean(page)


@pytest.mark.parametrize(
    ("function", "nodes", "expected"),
    [
        (with_helper, ["fetch", "clean", "score"], {"fetch>clean", "clean>score"}),
        (
            with_helper_twice,
            ["clean", "score", "clean_2", "score_2"],
            {"clean>score", "score>clean_2", "clean_2>score_2"},
        ),
        (
            with_helper_in_a_loop_and_after,
            ["clean", "score", "clean_2", "score_2"],
            {"clean>score", "score>clean", "score>clean_2", "clean_2>score_2"},
        ),
        (with_plain_helper, ["fetch", "clean"], {"fetch>clean"}),
        (with_variadic_helper, ["fetch", "clean", "score"], {"fetch>score", "clean>score"}),
        (with_keyword_only_default, ["clean"], set()),
        (with_local_default_and_recursion, ["fetch", "clean"], set()),
        (with_passed_step, ["fetch", "clean"], {"fetch>clean"}),
        (with_local_function, ["fetch", "clean", "score"], {"fetch>clean", "clean>score"}),
        (with_lambda, ["fetch", "clean"], {"fetch>clean"}),
        (recursive, ["clean"], set()),
        (ping, ["clean", "score"], {"clean>score"}),
        (with_context_manager, ["fetch", "clean"], {"fetch>clean"}),
    ],
)
def test_helpers_are_read_where_they_are_called(function, nodes, expected):
    """The steps of a helper are nodes of the pipeline, its arguments and result part of the flow; recursion ends."""
    graph = read_graph(function)
    assert ids(graph) == nodes
    assert edges(graph) == expected
    assert not graph.dynamic


def test_a_helper_of_another_package_is_read_when_it_names_a_step():
    """A helper from elsewhere is looked into only if a step is in its reach."""
    package = types.ModuleType("package")
    package.clean = clean
    elsewhere = {"__name__": "elsewhere", "clean": clean}
    helper = types.FunctionType(enrich.__code__, {**elsewhere, "_deeper": _deeper}, "enrich")
    through_module = types.FunctionType(_by_module.__code__, {"__name__": "elsewhere", "package": package})
    stranger = types.FunctionType(_apply.__code__, elsewhere, "stranger")
    assert ids(read_graph(_calling(helper))) == ["clean", "score"]
    assert ids(read_graph(_calling(through_module))) == ["clean"]
    assert read_graph(_calling(stranger)) == Graph()


def _by_module(x, _):
    return [package.clean(item) for item in x]  # noqa: F821  # given by the test


def _calling(helper):
    return lambda x: helper(x, x)


# What cannot be resolved


def calls_parameter(stage, x):
    return clean(stage(x))


def calls_item(x):
    return clean(STEPS[x](x))


def calls_result(x):
    return clean(operator.itemgetter(x)(STEPS)(x))


def calls_undefined(x):
    return clean(defined_nowhere(x))  # noqa: F821  # what is tested


def calls_decorated_local(x):
    @functools.lru_cache
    def local(value):
        return value

    return clean(local(x))


@pytest.mark.parametrize(
    ("function", "name", "label"),
    [
        (calls_parameter, "stage", "stage"),
        (calls_item, "STEPS", "STEPS[x]"),
        (calls_undefined, "defined_nowhere", "defined_nowhere"),
        (calls_decorated_local, "local", "local"),
    ],
)
def test_what_might_be_a_step_is_a_dynamic_node(function, name, label):
    """A call that may turn out to be a step is shown as one, marked, and makes the whole graph dynamic."""
    graph = read_graph(function)
    assert [(node.id, node.step, node.dynamic) for node in graph.nodes] == [
        (name, label, True),
        ("clean", "clean", False),
    ]
    assert edges(graph) == {f"{name}>clean"}
    assert graph.dynamic


def test_the_result_of_a_call_may_be_a_step():
    """Calling what another call returned is dynamic."""
    assert read_graph(calls_result).dynamic


def handed_over(x):
    with ThreadPoolExecutor() as pool:
        return score(pool.submit(clean, fetch(x)).result())


def handed_over_in_lambda(x):
    return score(asyncio.to_thread(lambda: clean(fetch(x))))


@pytest.mark.parametrize("function", [handed_over, handed_over_in_lambda])
def test_a_step_given_to_other_code_is_dynamic(function):
    """A step that is handed to a function of somebody else's is shown, but whether it runs is not known."""
    graph = read_graph(function)
    assert {node.id: node.dynamic for node in graph.nodes}["clean"]
    assert {"fetch>clean", "clean>score"} <= edges(graph)


def ordinary(x):
    isinstance(clean, FakeStep), x.method(), math.sqrt(2), json.dumps(x)

    class Local:
        pass

    return Local(), dict(x), sorted(x), sys.stdout.write("x")


def test_ordinary_calls_are_not_nodes():
    """Builtins, methods, classes and functions of libraries leave no trace."""
    assert read_graph(ordinary) == Graph()


@pytest.mark.parametrize(
    "function",
    [len, dict.fromkeys, int, FakeStep, functools.partial(int), eval("lambda x: x"), types.SimpleNamespace(), 3],  # noqa: S307
)
def test_without_source_the_graph_is_empty_and_dynamic(function):
    """Builtins, classes, functions without a file and objects that cannot be called are no errors."""
    assert read_graph(function) == Graph(dynamic=True)


class Loud:
    """An object that objects to being looked at."""

    @property
    def __class__(self):
        raise AssertionError("reading a graph asked an object for its class")

    def __getattr__(self, name):
        raise AssertionError(f"reading a graph asked an object for {name}")

    def __eq__(self, other):
        raise AssertionError("reading a graph compared an object")

    __hash__ = None


loud = Loud()


def with_loud_objects(x):
    return clean(loud(x), loud.step(x), loud[0](x), repr(loud))


def test_no_code_of_the_users_runs():
    """Lazy proxies are left alone: neither properties nor `__getattr__`, `__eq__` or `__class__` are used."""
    assert "clean" in ids(read_graph(with_loud_objects))


# Bounds


def _compiled(tmp_path, source):
    """Return function `f` of a module with this source."""
    file = tmp_path / "generated.py"
    file.write_text(source)
    scope: dict[str, Any] = {"clean": clean, "__name__": "generated"}
    exec(compile(source, str(file), "exec"), scope)  # noqa: S102  # source of the test's own
    return scope["f"]


def test_too_many_nodes_are_cut(tmp_path):
    """A function with more calls than the limit gives a graph of the limit's size, marked dynamic."""
    function = _compiled(tmp_path, "def f(x):\n" + "    x = clean(x)\n" * (reading.MAX_NODES + 1))
    graph = read_graph(function)
    assert len(graph.nodes) == reading.MAX_NODES
    assert graph.dynamic


@pytest.mark.parametrize(
    "body",
    [
        "x = x" + " + x" * 2000,
        "x = [" + "x, " * (reading.MAX_VISITS + 1) + "]",
        "\n    ".join(f"{'  ' * depth}for i{depth} in clean(x):" for depth in range(15)) + " x = clean(x)",
    ],
    ids=["deep", "long", "nested loops"],
)
def test_excessive_functions_end_the_reading(tmp_path, body):
    """Deep, long and deeply repeated code is read in bounded time, without an exception."""
    graph = read_graph(_compiled(tmp_path, f"def f(x):\n    {body}\n"))
    assert len(graph.nodes) <= 16


def test_chains_of_helpers_are_bounded(tmp_path):
    """Helpers below the limit of depth are left out, and the graph says that there may be more."""
    helpers = "".join(f"def f{i}(x):\n    return f{i + 1}(x)\n" for i in range(20))
    function = _compiled(tmp_path, f"{helpers}def f20(x):\n    return clean(x)\ndef f(x):\n    return f0(x)\n")
    assert read_graph(function) == Graph(dynamic=True)


def test_a_helper_that_is_too_large_does_not_hide_the_pipeline(tmp_path):
    """Where only a helper is beyond the limits, the steps of the pipeline itself are all shown."""
    helper = f"def helper(x):\n    x = [{'x, ' * (reading.MAX_VISITS + 1)}]\n    return x\n"
    deeper = "def deeper(x):\n    return helper(x)\n"
    function = _compiled(tmp_path, f"{helper}{deeper}def f(x):\n    return clean(deeper(clean(x)))\n")
    graph = read_graph(function)
    assert edges(graph) == {"clean>clean_2"}
    assert graph.dynamic


def _functions_of(package):
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if info.name.endswith("__main__") or "windows" in info.name:
            continue
        for owner in vars(importlib.import_module(info.name)).values():
            members = vars(owner).values() if inspect.isclass(owner) else [owner]
            yield from (member for member in members if inspect.isfunction(member))


@pytest.mark.parametrize("package", [json, asyncio, email], ids=lambda package: package.__name__)
def test_every_function_of_the_standard_library_can_be_read(package):
    """Reading never raises, whatever the code looks like, and finds no steps where there are none."""
    functions = list(dict.fromkeys(_functions_of(package)))
    assert len(functions) > 10
    for function in functions:
        assert all(node.dynamic for node in read_graph(function).nodes), function


# The real thing


def test_real_steps_and_pipelines_are_recognised():
    """`@step` and `@pipeline` objects, methods among them, are what the graph looks for."""

    @real_step
    def tokenize(text: str) -> str:
        return text

    class Model:
        @real_step
        def predict(self, text: str) -> str:
            return text

    model = Model()

    @real_pipeline
    def inner(text: str) -> str:
        return tokenize(text)

    @real_pipeline
    def outer(text: str) -> str:
        return model.predict(inner(tokenize(text)))

    graph = read_graph(outer)
    assert [(node.id, node.kind) for node in graph.nodes] == [
        ("tokenize", "step"),
        ("inner", "pipeline"),
        ("predict", "step"),
    ]
    assert edges(graph) == {"tokenize>inner", "inner>predict"}
    assert not graph.dynamic
