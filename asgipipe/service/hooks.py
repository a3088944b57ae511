"""Calling the user's hooks: sync or async, within a time limit, with what they ask for."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from asgipipe import sources
from asgipipe.errors import StartupError
from asgipipe.pipelines.callables import kind_of, name_of
from asgipipe.pipelines.execution import message_of
from asgipipe.pipelines.executor import ThreadExecutor

Hook = Callable[..., object]


def load_hook(hook: Hook | str | None, setting: str) -> Hook | None:
    """Return the hook itself, imported when it was given as an import string."""
    found = sources.load(hook) if isinstance(hook, str) else hook
    if found is None or callable(found):
        return found
    raise StartupError(f"{setting}: {hook!r} is not callable")


def takes(hook: Hook, parameter: str) -> bool:
    """True when `hook` has a parameter of that name."""
    return parameter in inspect.signature(hook).parameters


def takes_argument(hook: Hook) -> bool:
    """True when `hook` can be given one positional argument."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind in positional for parameter in inspect.signature(hook).parameters.values())


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

    Raises StartupError, naming `setting` and the hook, when it raises anything or does not end within `timeout` seconds; a
    sync hook is then left behind in its thread.
    """
    label = f"{setting} ({name_of(hook)})"
    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            if kind_of(hook).is_async:
                return await cast("asyncio.Future[object]", hook(*arguments, **kwargs))
            return await executor.run(partial(hook, *arguments, **kwargs))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # boundary: a hook may raise anything, SystemExit too
        if isinstance(error, TimeoutError) and scope.expired():
            raise StartupError(
                f"{label} did not finish within {timeout:g} s; raise hook_timeout if it needs longer"
            ) from error
        raise StartupError(f"{label} raised {type(error).__name__}: {message_of(error, 500)}") from error
