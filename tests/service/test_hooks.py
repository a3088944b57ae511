"""Hooks: what can be one, how it is called, and what becomes of one that fails or hangs."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from asgipipe.errors import DefinitionError, StartupError
from asgipipe.pipelines.executor import ThreadExecutor
from asgipipe.service.hooks import Hook, call_hook, load_hook, require_arguments, takes, with_argument

LONG = 30.0


def call(hook: Hook, *arguments: object, timeout: float = LONG, **kwargs: object) -> object:
    async def main() -> object:
        executor = ThreadExecutor(2)
        executor.start()
        try:
            return await call_hook(hook, arguments, kwargs, setting="on_init", timeout=timeout, executor=executor)
        finally:
            executor.stop(0.0)

    return asyncio.run(main())


def sync(value: int = 1) -> int:
    return value + 1


async def coroutine(value: int = 1) -> int:
    await asyncio.sleep(0)
    return value + 1


class Adder:
    def __call__(self, value: int = 1) -> int:
        return value + 1

    async def method(self, value: int = 1) -> int:
        return value + 1


class AsyncAdder:
    async def __call__(self, value: int = 1) -> int:
        return value + 1


HOOKS: list[Hook] = [
    sync,
    coroutine,
    Adder(),
    Adder().method,
    AsyncAdder(),
    functools.partial(sync),
    functools.partial(coroutine),
    lambda value=1: coroutine(value),
]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_kind_of_callable_is_called(hook: Hook) -> None:
    """Sync and async functions, methods, objects, partials, and a function that returns an awaitable."""
    assert call(hook) == 2
    assert call(hook, 3) == 4
    assert call(hook, value=4) == 5


def test_a_sync_hook_runs_in_a_thread_of_the_deployment_with_the_callers_context() -> None:
    """Not on the event loop, which goes on meanwhile; context variables are those of the caller."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("here")

    def hook() -> tuple[str, str]:
        return threading.current_thread().name.rpartition("-")[0], variable.get()

    assert call(hook) == ("asgipipe", "here")


def raising(error: BaseException) -> Callable[[], object]:
    def hook() -> object:
        raise error

    return hook


def raising_async(error: BaseException) -> Callable[[], Awaitable[object]]:
    async def hook() -> object:
        raise error

    return hook


@pytest.mark.parametrize("kind", [raising, raising_async])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no model"), "ValueError: no model"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (TimeoutError("of its own"), "TimeoutError: of its own"),
        (asyncio.CancelledError("of its own"), "CancelledError: of its own"),
        (ExceptionGroup("several", [OSError("a")]), "ExceptionGroup: several (1 sub-exception)"),
    ],
)
def test_whatever_a_hook_raises_is_one_error(
    kind: Callable[[BaseException], Hook], error: BaseException, text: str
) -> None:
    """StartupError names the setting, the hook, what was raised, and has it as its cause."""
    with pytest.raises(StartupError) as failed:
        call(kind(error))
    assert str(failed.value) == f"on_init (hook) raised {text}"
    assert failed.value.__cause__ is error


def test_the_message_of_a_failure_is_bounded() -> None:
    """A hook cannot fill the log."""
    with pytest.raises(StartupError) as failed:
        call(raising(ValueError("x" * 1_000_000)))
    assert len(str(failed.value)) < 1000


def test_a_hanging_async_hook_is_cut() -> None:
    """At the time-out; the error says which setting gives it more time."""

    async def hook() -> None:
        await asyncio.sleep(LONG)

    with pytest.raises(StartupError, match=r"^on_init \(hook\) did not finish within 0.02 s; raise hook_timeout"):
        call(hook, timeout=0.02)


def test_a_hanging_sync_hook_is_left_behind() -> None:
    """The start fails in time, though its thread goes on."""
    gate = threading.Event()
    with pytest.raises(StartupError, match=r"did not finish within 0\.02 s"):
        call(gate.wait, LONG, timeout=0.02)
    gate.set()


def test_the_cancellation_of_the_caller_passes() -> None:
    """Being told to stop while a hook runs is no failure of the hook's."""

    async def main() -> None:
        executor = ThreadExecutor(1)
        executor.start()
        begun = asyncio.Event()

        async def hook() -> None:
            begun.set()
            await asyncio.sleep(LONG)

        task = asyncio.ensure_future(call_hook(hook, (), {}, setting="x", timeout=LONG, executor=executor))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# Loading


def test_a_hook_may_be_an_import_string() -> None:
    """It is imported; None stays None."""
    assert load_hook("tests.runners.extras:hello", "on_init") is not None
    assert load_hook(sync, "on_init") is sync
    assert load_hook(None, "on_init") is None


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("tests.runners.extras:nothing", "has no attribute 'nothing'"),
        ("tests.runners.extras:KEY", "is not callable"),
        ("no.such:hook", "there is no module named 'no.such'"),
        (generator, "generator is a generator"),
        (async_generator, "async_generator is a async generator"),
    ],
)
def test_what_is_no_hook_is_refused(hook: Any, reason: str) -> None:
    """Before anything starts, naming the setting."""
    with pytest.raises(DefinitionError) as refused:
        load_hook(hook, "startup_hook")
    assert str(refused.value).startswith("startup_hook: ")
    assert reason in str(refused.value)


# Arguments


def nothing() -> None: ...
def state_only(state: object) -> None: ...
def state_and(state: object, path: str) -> None: ...
def and_state(path: str, state: object) -> None: ...
def path_only(path: str) -> None: ...
def path_and_flag(path: str, verbose: bool = False) -> None: ...
def anything(*arguments: object, **kwargs: object) -> None: ...
def by_name(*, path: str) -> None: ...
def positional(state: object, /) -> None: ...


@pytest.mark.parametrize(
    ("hook", "kwargs", "expected"),
    [
        (nothing, {}, ((), {})),
        (state_only, {}, (("state",), {})),
        (positional, {}, (("state",), {})),
        (state_and, {"path": "p"}, (("state",), {"path": "p"})),
        (and_state, {"path": "p"}, ((), {"path": "p", "state": "state"})),
        (path_only, {"path": "p"}, ((), {"path": "p"})),
        (path_and_flag, {"path": "p"}, ((), {"path": "p"})),
        (anything, {"a": 1}, (("state",), {"a": 1})),
        (by_name, {"path": "p"}, ((), {"path": "p"})),
        (print, {}, (("state",), {})),
    ],
)
def test_the_state_is_given_to_hooks_that_take_it(hook: Hook, kwargs: dict[str, object], expected: object) -> None:
    """One argument besides the kwargs, wherever it stands in the signature."""
    assert with_argument(hook, "state", kwargs) == expected
    require_arguments(hook, "on_cleanup", kwargs, argument=True)


@pytest.mark.parametrize(
    ("hook", "kwargs", "reason"),
    [
        (nothing, {"path": "p"}, "unexpected keyword argument 'path'"),
        (path_only, {}, "missing a required argument: 'path'"),
        (None, {"path": "p"}, "on_init_kwargs: arguments without a hook to call; give on_init"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(hook: Hook | None, kwargs: dict[str, object], reason: str) -> None:
    """Before anything starts, naming the setting and the signature."""
    with pytest.raises(DefinitionError) as refused:
        require_arguments(hook, "on_init", kwargs)
    assert reason in str(refused.value)


def test_what_a_hook_takes() -> None:
    """By the names of its parameters."""
    assert takes(path_only, "path")
    assert not takes(anything, "app_runner")
