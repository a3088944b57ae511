"""Finding an app runner: by the name of its flavor, by import string, or as the class itself."""

import difflib
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from asgipipe import sources
from asgipipe.errors import DefinitionError, SourceError
from asgipipe.runners.building import building

if TYPE_CHECKING:
    from asgipipe.runners.base import BaseDeploymentAppRunner

GROUP = "asgipipe.app_runners"


def load_app_runner(flavor: object) -> "type[BaseDeploymentAppRunner]":
    """Return the class that `flavor` stands for.

    Raises DefinitionError for an unknown flavor, a missing framework, or something that is no app runner.
    """
    from asgipipe.runners.base import BaseDeploymentAppRunner

    found = flavor
    if isinstance(flavor, str):
        found = _load_source(flavor) if ":" in flavor or "." in flavor else _load_flavor(flavor)
    if inspect.isclass(found) and issubclass(found, BaseDeploymentAppRunner):
        return found
    raise DefinitionError(f"deployment_app_runner_flavor {flavor!r} is not a subclass of BaseDeploymentAppRunner")


def flavors() -> dict[str, EntryPoint]:
    """Return the installed flavors by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load_source(source: str) -> object:
    with building("deployment_app_runner_flavor"):
        return sources.load(source)


def _load_flavor(name: str) -> object:
    known = flavors()
    entry = known.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"
        raise DefinitionError(f"deployment_app_runner_flavor: there is no app runner {name!r}; {hint}")
    try:
        return sources.load(entry.value)
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError):
            missing = (cause.name or "").partition(".")[0]
            raise DefinitionError(
                f"app runner {name!r} needs its framework: {_install(entry, missing)} ({cause})"
            ) from error
        raise


def _install(entry: EntryPoint, missing: str) -> str:
    """Return the command that installs what a flavor needs: the extra of its name where its package has one."""
    package = entry.dist
    extras = package.metadata.get_all("Provides-Extra") if package is not None else None
    if package is not None and entry.name in (extras or ()):
        return f'pip install "{package.name}[{entry.name}]"'
    return f"pip install {missing}"
