"""Flavors of deployers, found by entry points, and deployers made from what was registered."""

import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint

from pydantic import ValidationError

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings
from asgipipe.deployers.records import DeployerRecord
from asgipipe.errors import DefinitionError, SettingsError
from asgipipe.settings.issues import issues_of
from asgipipe.settings.layers import python_layer
from asgipipe.settings.plugins import Plugins

_FLAVORS = Plugins("asgipipe.deployers", "flavor", "deployer flavor", "a package that is not installed")


def flavors() -> dict[str, EntryPoint]:
    """Return the installed flavors by name."""
    return _FLAVORS.installed()


def load_flavor(flavor: str) -> type[BaseDeployer]:
    """Return the class of a flavor, or of an import string.

    Raises DefinitionError for an unknown flavor, one whose package is missing, or something that is no deployer.
    """
    found = _FLAVORS.load(flavor)
    if inspect.isclass(found) and issubclass(found, BaseDeployer):
        return found
    raise DefinitionError(f"flavor {flavor!r} is not a subclass of BaseDeployer")


def settings_of(flavor: str, values: Mapping[str, object]) -> DeployerSettings:
    """Return `values` as the settings of a flavor. Raises SettingsError with every mistake."""
    model = load_flavor(flavor).settings_class
    try:
        return model.model_validate(values)
    except ValidationError as error:
        layer = python_layer({}, f"deployer of flavor {flavor}")
        raise SettingsError(issues_of(error, model, lambda _: layer)) from None


def make_deployer(record: DeployerRecord) -> BaseDeployer:
    """Return the deployer that was registered. Raises DefinitionError and SettingsError."""
    return load_flavor(record.flavor)(record.name, settings_of(record.flavor, record.settings))
