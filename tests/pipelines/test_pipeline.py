import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from asgipipe import DefinitionError, Deployment, Pipeline, SourceError, pipeline, step
from asgipipe.pipelines.callables import Kind
from asgipipe.pipelines.pipeline import as_pipeline
from asgipipe.runners.deployment import resolve_settings
from tests.running import run, run_once, started

if TYPE_CHECKING:
    from decimal import Decimal


class Question(BaseModel):
    text: str
    times: int = 2


class Answer(BaseModel):
    text: str


@step
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@step
async def shout_later(text: str) -> str:
    return text.upper()


@step
def shout_words(text: str) -> Iterator[str]:
    yield from text.upper().split()


@step
async def shout_letters(text: str) -> AsyncIterator[str]:
    for letter in text.upper():
        yield letter


def plain(text: str) -> str:
    return text.upper()


async def coroutine(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


def generator(text: str) -> Iterator[str]:
    yield from text.upper()


async def async_generator(text: str) -> AsyncIterator[str]:
    for letter in text.upper():
        yield letter


class Shouter:
    """Shouts."""

    def __init__(self, mark: str = "") -> None:
        self.mark = mark

    def method(self, text: str) -> str:
        return text.upper() + self.mark

    async def async_method(self, text: str) -> str:
        return text.upper() + self.mark

    @pipeline
    def served(self, text: str) -> str:
        return text.upper() + self.mark

    @classmethod
    def of_class(cls, text: str) -> str:
        return text.upper()

    @staticmethod
    def of_none(text: str) -> str:
        return text.upper()

    def __call__(self, text: str) -> str:
        return text.upper() + self.mark


class AsyncShouter:
    async def __call__(self, text: str) -> str:
        return text.upper()


def louder(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    async def wrapper(text: str) -> str:
        return await asyncio.to_thread(function, text)

    return wrapper  # type: ignore[return-value]  # a decorator as users write them


# What can be served


@pytest.mark.parametrize(
    ("target", "name", "kind"),
    [
        (plain, "plain", Kind.SYNC),
        (coroutine, "coroutine", Kind.ASYNC),
        (generator, "generator", Kind.GENERATOR),
        (async_generator, "async_generator", Kind.ASYNC_GENERATOR),
        (Shouter().method, "method", Kind.SYNC),
        (Shouter().async_method, "async_method", Kind.ASYNC),
        (Shouter().served, "served", Kind.SYNC),
        (Shouter.of_class, "of_class", Kind.SYNC),
        (Shouter.of_none, "of_none", Kind.SYNC),
        (Shouter(), "Shouter", Kind.SYNC),
        (AsyncShouter(), "AsyncShouter", Kind.ASYNC),
        (functools.partial(plain), "plain", Kind.SYNC),
        (functools.partial(Shouter().async_method), "async_method", Kind.ASYNC),
        (lambda text: text.upper(), "<lambda>", Kind.SYNC),
        (louder(plain), "plain", Kind.ASYNC),
        (functools.lru_cache(plain), "plain", Kind.SYNC),
        (shout, "shout", Kind.SYNC),
        (shout_later, "shout_later", Kind.ASYNC),
        (shout_words, "shout_words", Kind.SYNC),
        (shout_letters, "shout_letters", Kind.ASYNC),
        (pipeline(plain), "plain", Kind.SYNC),
        (pipeline(pipeline(coroutine)), "coroutine", Kind.ASYNC),
    ],
)
def test_any_callable_is_served(target: object, name: str, kind: Kind) -> None:
    """Without a decorator: it has a name, is run as what it is, and gives its value."""
    served = as_pipeline(target)
    assert (served.name, served.kind) == (name, kind)
    result = run_once(served, {"text": "abc"})
    assert result.outcome.error is None
    assert result.outputs == {"output": "ABC"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (max, "^pipeline 'max': no signature found for builtin .*; serve a function that calls it$"),
    ],
)
def test_a_callable_without_a_signature_is_refused(target: object, message: str) -> None:
    """What Python knows no parameters of cannot have a contract; the error names it and the way out."""
    with pytest.raises(DefinitionError, match=message):
        Deployment(target, layers=())


def test_builtins_with_a_signature_are_served() -> None:
    """They need no function of the user's around them."""
    assert run_once(len, {"obj": [1, 2]}).outputs == {"output": 2}


@pytest.mark.parametrize("target", [Shouter, int, 3, None, "abc"])
def test_what_cannot_be_called_like_a_function_is_refused(target: object) -> None:
    """Classes would make objects, and the rest is not callable: an error where the pipeline is made."""
    with pytest.raises(DefinitionError, match="callable"):
        as_pipeline(target)


@pytest.mark.parametrize("name", ["", "a" * 101, "two\nlines", "\x00"])
def test_a_name_is_short_and_printable(name: str) -> None:
    """It is shown in logs, metrics and documents."""
    options = {"name": name} if name else {}
    function = plain if name else type("", (), {"__call__": lambda self, text: text})()
    with pytest.raises(DefinitionError, match="1 to 100 printable characters"):
        pipeline(**options)(function)  # type: ignore[call-overload]  # what the test is about


def test_a_pipeline_called_directly_is_the_plain_function() -> None:
    """Outside a run the decorators change nothing, docstring, name and module included."""

    @pipeline(name="other")
    def target(text: str) -> str:
        """What it does."""
        return shout(text)

    assert target("abc") == "ABC"
    assert (target.name, target.__name__, target.__doc__, target.description) == (
        "other", "other", "What it does.", "What it does.",
    )  # fmt: skip
    assert target.__module__ == __name__
    assert repr(target) == "<pipeline other>"
    assert asyncio.run(pipeline(coroutine)("abc")) == "ABC"
    assert list(pipeline(generator)("abc")) == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("target", "description"), [(Shouter(), "Shouts."), (shout, "Say it louder."), (lambda: 1, ""), (plain, "")]
)
def test_the_description_is_the_users_own(target: object, description: str) -> None:
    """A docstring of Python's own (`Call self as a function.`) never shows in the documents."""
    assert as_pipeline(target).description == description


def test_methods_can_be_pipelines() -> None:
    """A pipeline in a class body binds to its instance; the one in the class stays as it is."""
    loud = Shouter("!")
    assert loud.served("abc") == "ABC!"
    assert run_once(loud.served, {"text": "abc"}).outputs == {"output": "ABC!"}
    assert isinstance(Shouter.served, Pipeline)
    assert Shouter.served(loud, "x") == "X!"
    assert list(loud.served.contract.input_schema["properties"]) == ["text"]  # type: ignore[call-overload]  # a mapping


# Options


def test_with_options_lays_its_settings_over_the_decorators() -> None:
    """The decorator's settings lie at the bottom, each with_options above it; the original stays as it was."""
    original = pipeline(settings={"uvicorn_port": 1, "uvicorn_workers": 2, "app_title": "kept"})(plain)
    changed = original.with_options(settings={"uvicorn_port": 3}).with_options(settings={"uvicorn_workers": 4})
    settings = resolve_settings(changed, ())
    assert (settings.uvicorn_port, settings.uvicorn_workers, settings.app_title) == (3, 4, "kept")
    assert resolve_settings(original, ()).uvicorn_port == 1
    assert resolve_settings(original.with_options(name="x"), ()).uvicorn_port == 1


def test_with_options_changes_what_is_given_and_nothing_else() -> None:
    """A copy with another name keeps hooks, models and everything else; False is a value like any other."""
    hook = Shouter()
    original = pipeline(on_init=hook, on_init_kwargs={"text": "a"}, input_model=Question)(plain)
    changed = original.with_options(name="other", blocking=False, on_init_kwargs={})
    assert (changed.name, changed.blocking, changed.options.on_init_kwargs) == ("other", False, {})
    assert (changed.options.on_init, changed.options.input_model) == (hook, Question)
    assert (original.name, original.blocking, original.options.on_init_kwargs) == ("plain", True, {"text": "a"})


def test_hooks_get_their_arguments_and_on_cleanup_the_state() -> None:
    """on_init is called with its kwargs, on_cleanup with what on_init returned and its own; both once."""
    told: list[object] = []

    async def on_init(model: str) -> dict[str, str]:
        told.append(("init", model))
        return {"model": model}

    def on_cleanup(state: object, note: str) -> None:
        told.append(("cleanup", state, note))

    target = pipeline(
        on_init=on_init, on_init_kwargs={"model": "m"}, on_cleanup=on_cleanup, on_cleanup_kwargs={"note": "n"}
    )(plain)

    async def main() -> None:
        async with started(target) as deployment:
            for _ in range(2):
                await run(deployment, {"text": "abc"})

    asyncio.run(main())
    assert told == [("init", "m"), ("cleanup", {"model": "m"}, "n")]


def test_models_may_be_given_as_import_strings() -> None:
    """They are imported when the deployment is built, and describe a callable without annotations."""

    def untyped(text, times):  # type: ignore[no-untyped-def]
        return {"text": text * times}

    served = pipeline(input_model=f"{__name__}:Question", output_model=f"{__name__}:Answer")(untyped)
    assert served.contract.required
    result = run_once(served, {"text": "ab", "times": 2})
    assert result.outputs == {"output": {"text": "abab"}}


@pytest.mark.parametrize("option", ["input_model", "output_model"])
def test_a_model_that_is_none_is_refused(option: str) -> None:
    """An import string that leads nowhere, or to something else, is named when the deployment is built."""
    wrong: dict[str, Any] = {option: f"{__name__}:Missing"}
    with pytest.raises(SourceError, match="Missing"):
        Deployment(pipeline(**wrong)(plain), layers=())
    for model in (f"{__name__}:plain", dict):
        wrong = {option: model}
        with pytest.raises(DefinitionError, match=f"{option} is a pydantic model class"):
            Deployment(pipeline(**wrong)(plain), layers=())


# What is wrong with it is said when it is built


@step
def later_defined() -> "Defined":
    return Defined(value=1)


@pipeline
def uses_later_defined() -> "Defined":
    return later_defined()


class Defined(BaseModel):
    value: int


def test_annotations_may_name_what_is_defined_further_down() -> None:
    """Decorating evaluates what it can; the rest is evaluated when it is needed."""
    assert run_once(uses_later_defined).outputs == {"output": {"value": 1}}


def test_annotations_may_name_classes_of_a_function_that_has_returned() -> None:
    """They are evaluated while the decorator runs, when the names around it can be seen."""

    def make() -> Pipeline[[], object]:
        class Local(BaseModel):
            value: int

        @step
        def makes() -> "Local":
            return Local(value=2)

        @pipeline(name="first")
        def target() -> "Annotated[Local, 'made']":
            return makes.with_options(name="renamed")()

        return target

    made = make()
    for served in (made, made.with_options(name="second")):
        assert served.output_names == ("made",)
        assert run_once(served).outputs == {"made": {"value": 2}}


@step
def unresolvable() -> "Decimal": ...  # type: ignore[empty-body]  # imported for checkers only


@step
def unresolvable_stream() -> "Iterator[Decimal]":
    yield from ()


@step
def empty_name() -> Annotated[int, ""]:
    return 1


@step
def repeated_names() -> tuple[Annotated[int, "a"], Annotated[int, "a"]]:
    return 1, 2


@step
def only_its_parameter(value: "Decimal") -> int:
    return 1


@pytest.mark.parametrize("broken", [unresolvable, unresolvable_stream, empty_name, repeated_names])
def test_a_step_whose_outputs_cannot_be_decided_is_named_when_the_deployment_is_built(
    broken: Callable[[], object],
) -> None:
    """Also when it stands in the middle, and when it is called by a pipeline inside the pipeline."""

    @pipeline
    def direct() -> int:
        broken()
        return 1

    @pipeline
    def around() -> int:
        return direct()

    for target in (direct, around):
        with pytest.raises(DefinitionError, match=f"{broken.__name__}: the return annotation"):
            Deployment(target, layers=())


def test_the_parameters_of_a_step_need_no_annotation_that_can_be_evaluated() -> None:
    """Nothing is done with them: names imported for type checkers only are fine there."""

    @pipeline
    def target() -> int:
        return only_its_parameter(1)  # type: ignore[arg-type]  # what it is given does not matter

    assert run_once(target).outputs == {"output": 1}


def test_the_parameters_of_a_pipeline_are_its_contract() -> None:
    """One whose annotation cannot be evaluated is named when the deployment is built."""

    @pipeline
    def target(value: "Decimal") -> int:
        return 1

    with pytest.raises(DefinitionError, match="parameter 'value', 'Decimal', cannot be evaluated"):
        Deployment(target, layers=())
