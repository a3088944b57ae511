"""Calling the user's hooks: sync or async, within a time limit, with what they ask for."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial

from asgipipe import sources
from asgipipe.errors import DefinitionError, SourceError, StartupError
from asgipipe.pipelines.callables import kind_of, name_of
from asgipipe.pipelines.execution import summary_of
from asgipipe.pipelines.executor import ThreadExecutor

Hook = Callable[..., object]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def load_hook(hook: Hook | str | None, setting: str) -> Hook | None:
    """Return the hook itself, imported when it was given as an import string.

    Raises DefinitionError, naming `setting`, for what is not found, cannot be called, or is a generator.
    """
    try:
        found = sources.load(hook) if isinstance(hook, str) else hook
    except SourceError as error:
        raise DefinitionError(f"{setting}: {error}") from error
    if found is None:
        return None
    if not callable(found):
        raise DefinitionError(f"{setting}: {hook!r} is not callable")
    kind = kind_of(found)
    if kind.streams:
        raise DefinitionError(
            f"{setting}: {name_of(found)} is a {kind.value}, so calling it would run nothing; give a plain or a"
            " coroutine function"
        )
    return found


def takes(hook: Hook, parameter: str) -> bool:
    """True when `hook` has a parameter of that name."""
    return parameter in _parameters(hook)


def with_argument(
    hook: Hook, argument: object, kwargs: Mapping[str, object]
) -> tuple[tuple[object, ...], Mapping[str, object]]:
    """Return how to call `hook` with `kwargs`, and with `argument` when it takes one besides them."""
    for position, parameter in enumerate(_parameters(hook).values()):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return ((argument,) if position == 0 else ()), kwargs
        if parameter.kind not in _POSITIONAL:
            break
        if parameter.name in kwargs:
            continue
        if position == 0:
            return (argument,), kwargs
        if parameter.default is inspect.Parameter.empty:
            return (), {**kwargs, parameter.name: argument}
    return (), kwargs


def require_arguments(hook: Hook | None, setting: str, kwargs: Mapping[str, object], *, argument: bool = False) -> None:
    """Raise DefinitionError, naming `setting`, unless the hook can be called with `kwargs`.

    With `argument` it is given one more where it takes one, see `with_argument`.
    """
    if hook is None:
        if kwargs:
            raise DefinitionError(f"{setting}_kwargs: arguments without a hook to call; give {setting}")
        return
    try:
        signature = inspect.signature(hook)
    except ValueError:  # some builtins have none: the call will tell
        return
    positional, named = with_argument(hook, None, kwargs) if argument else ((), kwargs)
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise DefinitionError(f"{setting}: {name_of(hook)}{signature} does not fit {setting}_kwargs: {error}") from None


async def call_hook(
    hook: Hook,
    arguments: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    setting: str,
    timeout: float,
    executor: ThreadExecutor,
) -> object:
    """Call `hook`, a sync one in a thread, and return what it returned.

    Raises StartupError, naming `setting` and the hook, when it raises anything or does not end within `timeout`
    seconds; a sync hook is then left behind in its thread.
    """
    label = f"{setting} ({name_of(hook)})"
    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            if kind_of(hook).is_async:
                result = hook(*arguments, **kwargs)
            else:
                result = await executor.run(partial(hook, *arguments, **kwargs))
            # A lambda around a coroutine function, for one, does not look async but is.
            return await result if inspect.isawaitable(result) else result
    except BaseException as error:  # boundary: a hook may raise anything, SystemExit too
        if isinstance(error, TimeoutError) and scope.expired():
            raise StartupError(
                f"{label} did not finish within {timeout:g} s; raise hook_timeout if it needs longer"
            ) from error
        if _is_cancellation(error):
            raise
        raise StartupError(f"{label} raised {summary_of(error)}") from error


def _is_cancellation(error: BaseException) -> bool:
    """Tell the cancellation of this task from a CancelledError that the hook made up itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _parameters(hook: Hook) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(hook).parameters
    except ValueError:  # some builtins have none
        return {}
