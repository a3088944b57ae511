"""Settings written in Python as what a snapshot takes: texts by the path of their field."""

import json
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from asgipipe.errors import DefinitionError, SettingsError
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.settings import DeploymentSettings
from asgipipe.settings.issues import issues_of
from asgipipe.settings.keys import plain
from asgipipe.settings.layers import python_layer

_ORIGIN = "settings of deploy"
_KEYS = "auth_key"


def texts_of(settings: SettingsLike | None) -> Mapping[str, str]:
    """Return settings as texts.

    Raises SettingsError for wrong ones, DefinitionError for an object that another process could not be told of.
    """
    if settings is None:
        return {}
    model = _checked(settings)
    try:
        values = model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={_KEYS})
    except PydanticSerializationError as error:
        raise DefinitionError(
            f"settings hold an object that the process which is to serve cannot be given ({error}): name it by an "
            "import string, 'package.module:name'"
        ) from None
    if _KEYS in model.model_fields_set:
        values[_KEYS] = list(plain(model.auth_key)) or None
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _checked(settings: SettingsLike) -> DeploymentSettings:
    if isinstance(settings, DeploymentSettings):
        return settings
    try:
        return DeploymentSettings.model_validate(settings)
    except ValidationError as error:
        layer = python_layer(settings, _ORIGIN)
        raise SettingsError(issues_of(error, DeploymentSettings, lambda _: layer)) from None
