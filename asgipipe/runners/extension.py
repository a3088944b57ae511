"""Extensions: code of the user's that changes the framework's application once it is built."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.callables import kind_of, name_of

if TYPE_CHECKING:
    from asgipipe.runners.base import BaseDeploymentAppRunner


class BaseAppExtension(ABC):
    """An extension with state; the `extension_kwargs` go to its constructor."""

    @abstractmethod
    def install(self, app_runner: "BaseDeploymentAppRunner") -> None:
        """Change the application: `app_runner.asgi_app` is the framework's, `.service` and `.deployment` are there too."""


def install(extension: object, app_runner: "BaseDeploymentAppRunner", kwargs: Mapping[str, object]) -> None:
    """Install a callable, an extension class, or an instance of one."""
    if inspect.isclass(extension) and issubclass(extension, BaseAppExtension):
        extension = extension(**kwargs)
        kwargs = {}
    if isinstance(extension, BaseAppExtension):
        if kwargs:
            raise DefinitionError(f"extension {type(extension).__name__} is an instance already: it takes no kwargs")
        extension.install(app_runner)
        return
    function = cast(Callable[..., object], extension)
    if not callable(extension) or kind_of(function).is_async:
        raise DefinitionError(f"extension {extension!r}: give a plain function, or a class with install(app_runner)")
    try:
        inspect.signature(function).bind(app_runner, **kwargs)
    except TypeError as error:
        raise DefinitionError(f"extension {name_of(function)}: {error}") from None
    function(app_runner, **kwargs)
