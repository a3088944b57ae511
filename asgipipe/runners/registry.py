"""Finding an app runner: by the name of its flavor, by import string, or as the class itself."""

import inspect
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from asgipipe.errors import DefinitionError
from asgipipe.settings.plugins import Plugins

if TYPE_CHECKING:
    from asgipipe.runners.base import BaseDeploymentAppRunner

_RUNNERS = Plugins(
    "asgipipe.app_runners",
    "deployment_app_runner_flavor",
    "app runner",
    "its framework",
    own={"starlette": "asgipipe.runners.starlette:StarletteAppRunner"},
)


def load_app_runner(flavor: object) -> "type[BaseDeploymentAppRunner]":
    """Return the class that `flavor` stands for.

    Raises DefinitionError for an unknown flavor, a missing framework, or something that is no app runner.
    """
    from asgipipe.runners.base import BaseDeploymentAppRunner

    found = _RUNNERS.load(flavor)
    if inspect.isclass(found) and issubclass(found, BaseDeploymentAppRunner):
        return found
    raise DefinitionError(f"deployment_app_runner_flavor {flavor!r} is not a subclass of BaseDeploymentAppRunner")


def flavors() -> dict[str, EntryPoint]:
    """Return the installed flavors by name."""
    return _RUNNERS.installed()
