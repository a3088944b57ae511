import re
from collections.abc import Callable

import pytest

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.builder import HandlerKind, build_handler, classify

RUNNER = object()


class Plain:
    def __init__(self, scale: int = 1) -> None:
        self.scale = scale

    def __call__(self, x: int) -> int:
        return x * self.scale


class WithRunner:
    def __init__(self, app_runner: object, *, name: str) -> None:
        self.app_runner = app_runner
        self.name = name

    def __call__(self) -> str:
        return self.name


def builder(app_runner: object, scale: int) -> Callable[[int], object]:
    return lambda x: (app_runner, x * scale)


async def async_builder(app_runner: object) -> None: ...


def silent(app_runner: object) -> None: ...


def late(app_runner: object) -> object:
    async def work() -> None: ...

    return work()


def broken(app_runner: object) -> None:
    raise LookupError("no model at models/a.bin")


class NotCallable:
    pass


def direct(x: int) -> int:
    return x


def test_kinds_are_told_apart() -> None:
    """A class is a builder, a function with `app_runner` is one, all else is the handler itself."""
    assert classify(Plain) is HandlerKind.BUILDER_CLASS
    assert classify(builder) is HandlerKind.BUILDER_FUNCTION
    for handler in (direct, Plain(), Plain().__call__, print):
        assert classify(handler) is HandlerKind.DIRECT


def test_builders_are_built_with_what_they_take() -> None:
    """A class gets `app_runner` only if it takes it; a function always does; both get init_kwargs."""
    assert build_handler(Plain, RUNNER, {"scale": 3})(2) == 6
    made = build_handler(WithRunner, RUNNER, {"name": "n"})
    assert isinstance(made, WithRunner)
    assert (made.app_runner, made()) == (RUNNER, "n")
    assert build_handler(builder, RUNNER, {"scale": 2})(4) == (RUNNER, 8)
    assert build_handler(direct, RUNNER, {}) is direct


@pytest.mark.parametrize(
    ("handler", "kwargs", "reason"),
    [
        (3, {}, "int is not callable"),
        (direct, {"x": 1}, "init_kwargs are for builders"),
        (async_builder, {}, "plain function, not async"),
        (silent, {}, "None cannot be called"),
        (late, {}, "returned an awaitable"),
        (broken, {}, "LookupError: no model at models/a.bin"),
        (NotCallable, {}, "type NotCallable cannot be called"),
        (Plain, {"scael": 2}, "'scael'"),
        (WithRunner, {}, "'name'"),
        (builder, {"scale": 1, "app_runner": 2}, "given by us"),
    ],
)
def test_mistakes_name_handler_and_reason(handler: object, kwargs: dict[str, object], reason: str) -> None:
    """Whatever keeps a handler from being built is a DefinitionError with the handler's name and the reason."""
    with pytest.raises(DefinitionError, match=re.escape(reason)) as caught:
        build_handler(handler, RUNNER, kwargs)
    name = getattr(handler, "__name__", type(handler).__name__)
    assert name in str(caught.value)
