"""Extensions: code of the user's that changes the framework's application once it is built."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import kind_of, name_of

if TYPE_CHECKING:
    from asgipipe.runners.base import BaseDeploymentAppRunner


class BaseAppExtension(ABC):
    """An extension with state; the `extension_kwargs` go to its constructor."""

    @abstractmethod
    def install(self, app_runner: "BaseDeploymentAppRunner") -> None:
        """Change `app_runner.asgi_app`, the framework's application; `.service` and `.deployment` are there too."""


@runtime_checkable
class Installable(Protocol):
    """Anything with an `install` like that of BaseAppExtension."""

    def install(self, app_runner: "BaseDeploymentAppRunner") -> object: ...


def install(extension: object, app_runner: "BaseDeploymentAppRunner", kwargs: Mapping[str, object]) -> None:
    """Install a callable, a class with `install`, or an instance of one.

    Raises DefinitionError for what cannot be called with the app runner and `kwargs`, and for async extensions: nobody
    would await them.
    """
    if inspect.isclass(extension) and isinstance(extension, Installable):
        _require(extension, (), kwargs)
        extension, kwargs = cast(Callable[..., object], extension)(**kwargs), {}
    if isinstance(extension, Installable):
        if kwargs:
            raise DefinitionError("it is an instance already, so extension_kwargs have nowhere to go; give its class")
        extension, kwargs = extension.install, {}
    if not callable(extension):
        raise DefinitionError("an extension is a plain function, or a class with install(app_runner)")
    _call(extension, app_runner, kwargs)


def _call(function: Callable[..., object], app_runner: "BaseDeploymentAppRunner", kwargs: Mapping[str, object]) -> None:
    kind = kind_of(function)
    if kind.is_async or kind.streams:
        raise DefinitionError(f"{name_of(function)} is an {kind.value} function, but an extension is a plain one")
    _require(function, (app_runner,), kwargs)
    result = function(app_runner, **kwargs)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise DefinitionError(f"{name_of(function)} returned an awaitable; an extension is not async")


def _require(function: Callable[..., object], arguments: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins have none: the call will tell
        return
    try:
        signature.bind(*arguments, **kwargs)
    except TypeError as error:
        raise DefinitionError(f"{name_of(function)}{signature} does not take its arguments: {error}") from None
