import asyncio
import functools
import sys
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import Field
from typing_extensions import TypeAliasType

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.outputs import OutputShape, output_names
from asgipipe.pipelines.pipeline import pipeline as real_pipeline
from asgipipe.pipelines.step import step as real_step
from asgipipe.pipelines.syntax import annotations


def shape(function: Callable[..., Any]) -> OutputShape:
    return output_names(function, annotations(function))


@dataclass(frozen=True)
class FakeStep:
    """As much of a step as the output names look at; calling it would be an error."""

    function: Callable[..., Any]
    name: str
    __asgipipe_step__ = True

    @property
    def output_names(self) -> tuple[str, ...]:
        return shape(self.function).names

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("deciding the output names ran a step")

    submit = map = __call__

    def with_options(self, **options: Any) -> "FakeStep":
        return replace(self, **options)


def step(function: Callable[..., Any]) -> FakeStep:
    return FakeStep(function, function.__name__)


@step
def answer(question) -> Annotated[str, "answer"]: ...


@step
def reply(question) -> Annotated[bytes, "answer"]: ...


@step
def judge(text) -> Annotated[float, Field(ge=0), "score"]: ...


@step
def split(data) -> tuple[Annotated[list[int], "train"], Annotated[list[int], "test"]]: ...


@step
def plain(data) -> int: ...


@step
def other(data) -> int: ...


@step
def untyped(data): ...


@step
def pair(data) -> Annotated[tuple[int, str], "pair"]: ...


@step
def tell(prompt) -> Annotated[Iterator[str], "story"]:
    yield "once"


def single(name, annotation=object):
    return OutputShape((name,), (annotation,), multiple=False)


def several(**outputs):
    return OutputShape(tuple(outputs), tuple(outputs.values()), multiple=True)


# 1. Names that are written


def one_name() -> Annotated[str, "answer"]: ...
def name_among_metadata() -> Annotated[str, Field(max_length=9), "answer", 3]: ...
def first_string() -> Annotated[str, "answer", "a remark"]: ...
def no_string() -> Annotated[str, Field(max_length=9)]: ...
def two_names() -> tuple[Annotated[int, "a"], Annotated[str, "b"]]: ...
def name_of_a_tuple() -> Annotated[tuple[int, str], "pair"]: ...
def one_item() -> tuple[Annotated[int, "only"]]: ...
def mixed() -> tuple[Annotated[int, "a"], str]: ...
def beats_the_step(x) -> Annotated[str, "mine"]:
    return answer(x)


async def of_a_coroutine() -> Annotated[str, "answer"]: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (one_name, single("answer", str)),
        (name_among_metadata, single("answer", Annotated[str, Field(max_length=9), 3])),
        (first_string, single("answer", Annotated[str, "a remark"])),
        (no_string, single("output", Annotated[str, Field(max_length=9)])),
        (two_names, several(a=int, b=str)),
        (name_of_a_tuple, single("pair", tuple[int, str])),
        (one_item, several(only=int)),
        (mixed, several(a=int, output_1=str)),
        (beats_the_step, single("mine", str)),
        (of_a_coroutine, single("answer", str)),
    ],
)
def test_a_written_name_is_the_name(function, expected):
    """`Annotated[T, "name"]` names an output; its other metadata stays with the type."""
    assert repr(shape(function)) == repr(expected)  # two FieldInfos are never equal inside Annotated


def empty() -> Annotated[str, " "]: ...
def empty_item() -> tuple[int, Annotated[str, ""]]: ...
def repeated() -> tuple[Annotated[int, "a"], Annotated[str, "a"]]: ...


@pytest.mark.parametrize("function", [empty, empty_item, repeated])
def test_a_bad_name_is_an_error_that_names_the_function(function):
    """Empty names, and one name for two outputs, are refused when the function is defined."""
    with pytest.raises(DefinitionError, match=rf"\.{function.__name__}: the return annotation names"):
        shape(function)


# 2. Names of the steps whose results are returned


def returned(x):
    return answer(x)


async def returned_awaited(x):
    return await answer(x)


def returned_variable(x):
    y = answer(x)
    z = y
    del x
    return z


def returned_future(x):
    return answer.submit(x).result(timeout=3)


async def returned_awaited_future(x):
    future = answer.submit(x)
    return await future


def returned_with_options(x):
    return answer.with_options(name="quick", retries=3)(x)


def returned_walrus(x):
    if y := answer(x):
        judge(y)
    return y


def returned_either(x):
    return answer(x) if x else answer(x + 1)


def returned_from_branches(x):
    if x == 1:
        y = answer(x)
    elif x == 2:
        return answer(2)
    else:
        y = answer(3)
    return y


def returned_from_loop(x):
    for _ in range(3):
        y = answer(x)
        if y:
            return y
    return answer(x)


def returned_from_try(x):
    try:
        return answer(x)
    except OSError:
        return answer("again")


def returned_from_match(x):
    match x:
        case 1:
            y = answer(x)
        case _:
            y = answer(0)
    return y


def returned_from_with(x):
    with x.lock:
        return answer(x)


def returned_last_assigned(x):
    y = judge(x)
    y = answer(y)
    return y  # noqa: RET504  # what is tested


@pytest.mark.parametrize(
    "function",
    [
        returned,
        returned_awaited,
        returned_variable,
        returned_future,
        returned_awaited_future,
        returned_with_options,
        returned_walrus,
        returned_either,
        returned_from_branches,
        returned_from_loop,
        returned_from_try,
        returned_from_match,
        returned_from_with,
        returned_last_assigned,
        lambda x: answer(x),  # noqa: PLW0108  # a lambda is what is tested
        functools.partial(returned, 3),
    ],
)
def test_the_name_is_that_of_the_step_output_that_is_returned(function):
    """However the result gets to the return statements, as long as all agree, it keeps its step's name and type."""
    assert shape(function) == single("answer", str)


def typed(x) -> str | None:
    return answer(x)


def typed_any(x) -> Any:
    return answer(x)


def typed_none(x) -> None:
    return answer(x)


@pytest.mark.parametrize(
    ("function", "annotation"), [(typed, str | None), (typed_any, Any), (typed_none, types.NoneType)]
)
def test_an_annotation_without_a_name_still_gives_the_type(function, annotation):
    """The name comes from the step, the type from the pipeline."""
    assert shape(function) == single("answer", annotation)


def same_name_other_type(x):
    return answer(x) if x else reply(x)


def test_steps_that_agree_on_the_name_but_not_on_the_type():
    """Different steps with the same output name give that name and no type."""
    assert shape(same_name_other_type) == single("answer")


def changed(x):
    return answer(x).upper()


def different(x):
    if x:
        return answer(x)
    return judge(x)


def one_or_several(x):
    return split(x) if x else train_only(x)


@step
def train_only(data) -> Annotated[list[int], "train"]: ...


def wrapped_once(x):
    return only(x)


@step
def only(data) -> tuple[Annotated[list[int], "only"]]: ...


def test_a_tuple_of_one_output_returned_whole_has_no_type():
    """The name of a step's only output is kept, but the type of the item is not taken for that of the tuple."""
    assert shape(wrapped_once) == single("only")


def or_none(x):
    if x:
        return answer(x)
    return None


def or_nothing(x):
    if x:
        return answer(x)
    return  # noqa: RET502  # what is tested


def attribute_of_a_step(x):
    return answer(x).result


def method_of_a_result(x):
    return answer(x).result()


def future_itself(x):
    return answer.submit(x)


def mapped(x):
    return answer.map(x).result()


def listed(x):
    return [answer(x), judge(x)]


def from_parameter(x):
    return x


def nothing(x):
    pass


def reassigned(x):
    y = answer(x)
    y += "!"
    return y


def in_nested_function(x):
    def inner():
        return answer(x)

    return str(inner)


@pytest.mark.parametrize(
    "function",
    [
        changed,
        different,
        one_or_several,
        or_none,
        or_nothing,
        attribute_of_a_step,
        method_of_a_result,
        future_itself,
        mapped,
        listed,
        from_parameter,
        nothing,
        reassigned,
        in_nested_function,
    ],
)
def test_without_one_certain_step_the_name_is_output(function):
    """A changed result, return statements that disagree, or one without a step, give the default name and no type."""
    assert shape(function) == single("output")


def whole(x):
    return split(x)


def whole_typed(x) -> tuple[int, str]:
    return split(x)


def whole_typed_otherwise(x) -> list[int]:
    return split(x)


def both(x):
    train, test = split(x)
    return train, test


def swapped(x):
    train, test = split(x)
    return test, train


def one_of_them(x):
    train, _ = split(x)
    return train


def one_by_index(x):
    parts = split(x)
    return parts[-1]


def one_of_them_starred(x):
    train, *_ = split(x)
    return train


def of_several_steps(x):
    return answer(x), judge(x)


def of_a_variable(x):
    found = answer(x), judge(x)
    return found  # noqa: RET504  # what is tested


async def gathered(x):
    first, second = await asyncio.gather(answer(x), judge.submit(x))
    return first, second


def with_something_else(x):
    return answer(x), x + 1


def partly_different(x):
    if x:
        return answer(x), judge(x)
    return answer(x), split(x)


def mixed_with_step(x) -> tuple[Annotated[int, "a"], str, float]:
    return 1, answer(x), 2.0


SCORE = Annotated[float, Field(ge=0)]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (whole, several(train=list[int], test=list[int])),
        (whole_typed, several(train=int, test=str)),
        (whole_typed_otherwise, single("output", list[int])),
        (both, several(train=list[int], test=list[int])),
        (swapped, several(test=list[int], train=list[int])),
        (one_of_them, single("train", list[int])),
        (one_by_index, single("test", list[int])),
        (one_of_them_starred, single("output")),
        (of_several_steps, several(answer=str, score=SCORE)),
        (of_a_variable, several(answer=str, score=SCORE)),
        (gathered, several(answer=str, score=SCORE)),
        (with_something_else, several(answer=str, output_1=object)),
        (partly_different, several(answer=str, output_1=object)),
        (mixed_with_step, several(a=int, answer=str, output_2=float)),
    ],
)
def test_several_outputs(function, expected):
    """Outputs of several steps, or several outputs of one step, keep their names by position."""
    assert repr(shape(function)) == repr(expected)


def step_that_returns_a_tuple(x) -> tuple[int, str]:
    return pair(x)


def test_one_output_that_is_a_tuple_stays_one():
    """A step's single output is not split because it is a tuple."""
    assert shape(step_that_returns_a_tuple) == single("pair", tuple[int, str])


def clash_of_steps(x):
    return answer(x), reply(x)


def clash_of_calls(x):
    return answer(x), answer(x), judge(x)


def clash_of_defaults(x):
    return plain(x), other(x)


def clash_with_written(x) -> tuple[Annotated[str, "answer"], str]:
    return x, answer(x)


def clash_with_written_default(x) -> tuple[Annotated[str, "output_1"], str]: ...


def clash_without_one_step(x):
    return (answer(x) if x else reply(x)), reply(x)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (clash_of_steps, ("answer.answer", "reply.answer")),
        (clash_of_calls, ("answer.answer", "answer.answer_2", "score")),
        (clash_of_defaults, ("plain.output", "other.output")),
        (clash_with_written, ("answer", "answer.answer")),
        (clash_with_written_default, ("output_1", "output_1_2")),
        (clash_without_one_step, ("output_0", "reply.answer")),
    ],
)
def test_clashing_names_are_told_apart(function, names):
    """Names that clash become `<step>.<output>`, then numbered; a name that is written is never changed."""
    assert shape(function).names == names


# 3. Default names


class Pair(NamedTuple):
    left: int
    right: int


def unannotated(x):
    return x + 1


def literal(x):
    return x, 2


def literal_everywhere(x):
    if x:
        return x, 2
    return 3, 4


def literal_of_other_length(x):
    if x:
        return x, 2
    return 3, 4, 5


def literal_starred(x):
    return x, *x


def literal_or_not(x):
    if x:
        return x, 2
    return x


def bare_tuple(x) -> tuple:
    return x, 2


def fixed_tuple(x) -> tuple[int, str]: ...
def fixed_typing_tuple(x) -> typing.Tuple[int, str]: ...  # noqa: UP006  # the old spelling
def tuple_of_any_length(x) -> tuple[int, ...]:
    return 1, 2


def unpacked_tuple(x) -> tuple[int, *tuple[str, ...]]: ...
def empty_tuple(x) -> tuple[()]: ...
def named_tuple(x) -> Pair:
    return Pair(1, 2)


def sequence(x) -> Sequence[int]:
    return 1, 2


def returns_none() -> None: ...


Aliased = TypeAliasType("Aliased", tuple[Annotated[int, "a"], str])


def aliased(x) -> Aliased: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (unannotated, single("output")),
        (literal, several(output_0=object, output_1=object)),
        (literal_everywhere, several(output_0=object, output_1=object)),
        (literal_of_other_length, single("output")),
        (literal_starred, single("output")),
        (literal_or_not, single("output")),
        (bare_tuple, several(output_0=object, output_1=object)),
        (fixed_tuple, several(output_0=int, output_1=str)),
        (fixed_typing_tuple, several(output_0=int, output_1=str)),
        (tuple_of_any_length, single("output", tuple[int, ...])),
        (empty_tuple, single("output", tuple[()])),
        (named_tuple, single("output", Pair)),
        (sequence, single("output", Sequence[int])),
        (returns_none, single("output", types.NoneType)),
        (aliased, several(a=int, output_1=str)),
        (len, single("output")),
        (int, single("output")),
        (eval("lambda x: (x, x)"), single("output")),  # noqa: S307  # a function without source
    ],
)
def test_default_names(function, expected):
    """`output`, or for a tuple of fixed length `output_0`, `output_1`, ..."""
    assert shape(function) == expected


def test_a_tuple_that_ends_in_any_number_of_items_is_one_output():
    """`tuple[int, *tuple[str, ...]]` has no fixed length."""
    found = shape(unpacked_tuple)
    assert (found.names, found.multiple) == (("output",), False)


class Service:
    def method(self, x):
        return answer(x)

    def __call__(self, x) -> Annotated[int, "count"]: ...


def test_methods_and_callable_objects_are_looked_through():
    """What is decided is the function inside a bound method or an object with `__call__`."""
    assert shape(Service().method) == single("answer", str)
    assert shape(Service()) == single("count", int)


# Generators


def texts() -> Iterator[str]:
    yield ""


def named_texts() -> Annotated[Iterator[str], "text"]:
    yield ""


def described_texts() -> Annotated[Iterator[str], "text", Field(max_length=9)]:
    yield ""


def numbers() -> Iterable[int]:
    yield 1


def full_generator() -> Generator[dict[str, int], None, bool]:
    yield {}


def of_nothing_known():
    yield 1


def of_tuples() -> Iterator[tuple[int, str]]:
    yield 1, ""


async def async_texts() -> AsyncIterator[str]:
    yield ""


async def async_numbers() -> AsyncGenerator[int, None]:
    yield 1


async def async_named() -> Annotated[AsyncIterable[str], "text"]:
    yield ""


def after_a_step(x) -> Iterator[str]:
    yield "".join(answer(x))
    return answer(x)


def returns_an_iterator() -> Iterator[str]:
    return iter(["a"])


def returns_a_generator_step(x):
    return tell(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (texts, single("output", str)),
        (named_texts, single("text", str)),
        (described_texts, single("text", Annotated[str, Field(max_length=9)])),
        (numbers, single("output", list[int])),
        (full_generator, single("output", list[dict[str, int]])),
        (of_nothing_known, single("output", list[object])),
        (of_tuples, single("output", list[tuple[int, str]])),
        (async_texts, single("output", str)),
        (async_numbers, single("output", list[int])),
        (async_named, single("text", str)),
        (after_a_step, single("output", str)),
        (returns_an_iterator, single("output", Iterator[str])),
        (returns_a_generator_step, single("story", str)),
    ],
)
def test_a_generator_has_one_output(function, expected):
    """A generator's output is the joined text for items of str, else the list; other functions keep their type."""
    assert repr(shape(function)) == repr(expected)


# Corners


def test_a_step_that_returns_its_own_result_ends():
    """Recursion, direct or through another step, is no endless question."""

    @step
    def down(x):
        return down(x - 1) if x else up(x)

    @step
    def up(x):
        return down(x)

    assert shape(down.function).names == ("output",)
    assert shape(up.function).names == ("output",)


def test_a_step_that_is_not_defined_yet_has_no_say():
    """A name that leads nowhere when the pipeline is defined gives the default name, not an error."""

    def early(x):
        return later(x)

    assert shape(early) == single("output")
    later = answer
    assert shape(early) == single("answer", str)


def test_the_type_of_a_step_is_unknown_when_its_annotation_can_no_longer_be_read():
    """A step annotated with a class that has gone out of sight keeps its name."""

    @step
    def lost(x): ...

    lost.function.__annotations__["return"] = "Annotated[GoneOutOfSight, 'kept']"

    class Lost:
        __asgipipe_step__ = True
        name = "lost"
        output_names = ("kept",)
        function = staticmethod(lost.function)

    found = Lost()

    def outer(x):
        return found(x)

    assert shape(outer) == single("kept")


def test_deciding_needs_no_source_where_the_annotation_says_all(monkeypatch):
    """With every output named in the annotation no file is read."""
    monkeypatch.setattr(sys.modules["asgipipe.pipelines.outputs"], "returned_value", None)
    assert shape(two_names) == several(a=int, b=str)
    assert shape(one_name) == single("answer", str)


def test_real_steps_and_pipelines_are_recognised():
    """`@step` and `@pipeline` objects, methods among them, give their output names."""

    class Model:
        @real_step
        def predict(self, text: str) -> Annotated[float, "score"]:
            return len(text) / 2

    model = Model()

    @real_pipeline
    def inner(text: str):
        return model.predict(text)

    @real_pipeline
    def outer(text: str):
        return inner(text)

    assert shape(inner.function) == single("score", float)
    assert shape(outer.function) == single("score", float)
