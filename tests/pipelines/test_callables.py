import functools
import operator
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from asgipipe import pipeline, step
from asgipipe.pipelines.callables import (
    Kind,
    describe,
    doc_of,
    is_node,
    is_step,
    kind_in_run,
    kind_of,
    name_of,
    plain_function,
    underlying,
)


def simple(x: int = 1) -> int:
    """A function."""
    return x


async def coroutine() -> int:
    return 1


def generator() -> Iterator[str]:
    yield "a"


async def async_generator() -> AsyncIterator[str]:
    yield "a"


class Holder:
    """A class."""

    def method(self, x: int) -> int:
        return x

    async def async_method(self) -> None: ...

    @staticmethod
    def static(x: int) -> int:
        return x

    @classmethod
    async def made(cls) -> None: ...

    def __call__(self, x: int) -> int:
        return x


class AsyncHolder:
    async def __call__(self) -> None: ...


class Marked:
    """As much of a step as is looked at."""

    __asgipipe_step__ = True
    name, output_names, function = "marked", ("output",), staticmethod(simple)


@functools.wraps(simple)
def wrapper(*args: int) -> int:
    return simple(*args)


@functools.wraps(simple)
async def made_async() -> int:
    return simple()


@functools.wraps(coroutine)
def passed_on() -> object:
    return coroutine()


class Wrapped:
    """An object that stands for a function, as `functools.update_wrapper` makes it."""

    def __init__(self, function: Callable[..., object]) -> None:
        functools.update_wrapper(self, function)

    async def __call__(self) -> None: ...


holder = Holder()


@pytest.mark.parametrize(
    ("target", "function", "arguments", "keywords"),
    [
        (simple, simple, (), {}),
        (wrapper, simple, (), {}),
        (functools.lru_cache(simple), simple, (), {}),
        (Marked(), simple, (), {}),
        (step(simple), simple, (), {}),
        (pipeline(simple), simple, (), {}),
        (Holder.static, Holder.static, (), {}),
        (Holder.__dict__["static"], Holder.static, (), {}),
        (holder.method, Holder.method, (holder,), {}),
        (holder, Holder.__call__, (holder,), {}),
        (functools.partial(functools.partial(simple, 1), 2, k=3), simple, (1, 2), {"k": 3}),
        (functools.partial(holder.method, 1), Holder.method, (holder, 1), {}),
        (functools.update_wrapper(functools.partial(simple, 1), simple), simple, (1,), {}),
        (functools.wraps(len)(lambda: None), None, (), {}),
    ],
)
def test_wrappers_are_looked_through(
    target: object, function: object, arguments: tuple[object, ...], keywords: dict[str, object]
) -> None:
    """The function inside is found, with the arguments that its wrappers put in front."""
    plain = plain_function(target)
    assert plain is not None
    expected = target if function is None else function
    assert (plain.function, plain.arguments, plain.keywords) == (expected, arguments, keywords)


def test_what_has_no_function_in_it() -> None:
    """Classes, builtins and endless wrappers have none."""
    endless = functools.wraps(simple)(lambda: None)
    endless.__wrapped__ = endless
    assert [plain_function(target) for target in (int, Holder, Marked, len, 3, endless)] == [None] * 6


def test_the_underlying_routine_of_anything_callable() -> None:
    """What has no Python function in it is its own routine, or that of its class."""
    assert underlying(functools.partial(holder.method, 1)) is Holder.method
    assert underlying(len) is len
    assert callable(underlying(operator.itemgetter(1)))


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (simple, Kind.SYNC),
        (coroutine, Kind.ASYNC),
        (generator, Kind.GENERATOR),
        (async_generator, Kind.ASYNC_GENERATOR),
        (functools.partial(functools.partial(coroutine)), Kind.ASYNC),
        (holder.async_method, Kind.ASYNC),
        (functools.partial(holder.async_method), Kind.ASYNC),
        (Holder.made, Kind.ASYNC),
        (holder, Kind.SYNC),
        (AsyncHolder(), Kind.ASYNC),
        (lambda: [*generator()], Kind.SYNC),
        (len, Kind.SYNC),
        (Holder, Kind.SYNC),
        (operator.itemgetter(1), Kind.SYNC),
        (made_async, Kind.ASYNC),
        (passed_on, Kind.ASYNC),
        (functools.lru_cache(coroutine), Kind.ASYNC),
        (Wrapped(simple), Kind.ASYNC),
        (step(coroutine), Kind.ASYNC),
        (step(generator), Kind.GENERATOR),
        (pipeline(async_generator), Kind.ASYNC_GENERATOR),
    ],
)
def test_the_kind_is_that_of_the_code_that_runs(target: Callable[..., object], kind: Kind) -> None:
    """The outermost code decides; a plain wrapper passes on what the function in it returns."""
    assert kind_of(target) is kind


def test_inside_a_run_a_step_has_collected_its_items() -> None:
    """There a generator step is called like a function, an async one like a coroutine function."""
    kinds = [kind_in_run(target) for target in (step(generator), step(async_generator), step(simple), generator)]
    assert kinds == [Kind.SYNC, Kind.ASYNC, Kind.SYNC, Kind.GENERATOR]
    assert kind_in_run(pipeline(generator)) is Kind.GENERATOR


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (simple, "simple"),
        (holder.method, "method"),
        (holder, "Holder"),
        (Holder, "Holder"),
        (functools.partial(simple, 1), "simple"),
        (functools.partial(holder), "Holder"),
        (len, "len"),
        (lambda: None, "<lambda>"),
        (step(name="other")(simple), "other"),
        (pipeline(simple), "simple"),
    ],
)
def test_a_callable_has_a_name(target: Callable[..., object], name: str) -> None:
    """It is the one a user would call it by."""
    assert name_of(target) == name


@pytest.mark.parametrize(
    ("target", "doc"),
    [
        (simple, "A function."),
        (functools.partial(simple, 1), "A function."),
        (step(simple), "A function."),
        (holder, "A class."),
        (holder.method, ""),
        (lambda: None, ""),
    ],
)
def test_a_callable_is_documented_by_its_function_or_class(target: Callable[..., object], doc: str) -> None:
    """Nothing of Python's own docstrings is taken for the user's."""
    assert doc_of(target) == doc


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (simple, f"{__name__}.simple"),
        (holder.method, f"{__name__}.Holder.method"),
        (holder, f"{__name__}.Holder.__call__"),
        (functools.partial(simple, 1), f"{__name__}.simple"),
        (len, "builtins.len"),
        (Holder, f"{__name__}.Holder"),
        (operator.itemgetter(1), "operator.itemgetter"),
    ],
)
def test_a_callable_is_described_by_its_place(target: object, name: str) -> None:
    """Error messages name module and function."""
    assert describe(target) == name


def test_only_objects_with_the_marker_are_steps() -> None:
    """An instance of the marked class is a step; the class, and objects that have every attribute, are not."""

    class Anything:
        def __getattr__(self, name: str) -> bool:
            return True

    assert is_step(Marked())
    assert not any(map(is_node, (Marked, Anything(), simple, None)))
