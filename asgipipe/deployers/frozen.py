"""The settings of a snapshot: what the file, the environment and the command line said, as the content of one file.

What the code itself says is not among them: it comes with the code, and lies below them as it did before. Secrets are
not, either: each goes into a variable of the environment, which lies above the file.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import to_json

from asgipipe.deployers.records import JSONObject
from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.settings import DeploymentSettings, Layer, PipelineSection
from asgipipe.settings.document import DocumentError, read
from asgipipe.settings.environment import CAPTURE_DEFAULT, environment_name
from asgipipe.settings.explanation import masked
from asgipipe.settings.fields import Shape, kind
from asgipipe.settings.resolution import laid_over
from asgipipe.settings.stores import shown
from asgipipe.settings.yamlfile import LARGEST

_KEYS = "auth_key"

# What a YAML reader refuses or takes for the end of a line, though it stands in quotes: YAML 1.1, 5.1 and 5.4.
_ESCAPED = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class FrozenSettings:
    """`settings` is the content of a settings file, `secrets` are variables of the environment."""

    settings: JSONObject
    secrets: Mapping[str, str] = field(repr=False)


def freeze(layers: Sequence[Layer], section: PipelineSection, environ: Mapping[str, str]) -> FrozenSettings:
    """Freeze `layers`, lowest first; `section` are the options of the pipeline, `environ` is what one layer is made of.

    Raises SettingsError for what no settings file can hold.
    """
    values = laid_over(layers)
    if values.get(_KEYS) is not None:  # what keys a deployment has is no part of its snapshot
        del values[_KEYS]
    secrets = {name: value for name, value in values.items() if _is_secret(name, value)}
    frozen: dict[str, object] = {
        "settings": {"deployment": {name: value for name, value in values.items() if name not in secrets}}
    }
    options = section.model_dump(mode="json", exclude_unset=True)
    if options:
        frozen["pipeline"] = options
    _check(frozen)
    _check(secrets)
    variables = {environment_name((name,)): _text(value) for name, value in secrets.items()}
    if CAPTURE_DEFAULT in environ:
        variables[CAPTURE_DEFAULT] = environ[CAPTURE_DEFAULT]  # it lies below what the code says, where no file does
    return FrozenSettings(frozen, variables)


def settings_text(settings: JSONObject) -> str:
    """Return the text of the settings file that says `settings`: JSON which every YAML reader reads as it is meant.

    Raises ValueError for infinity and NaN, which JSON has no form for.
    """
    # Not escaped throughout: YAML has no pairs of surrogates, with which JSON escapes what lies beyond U+FFFF.
    text = json.dumps(settings, ensure_ascii=False, allow_nan=False, indent=2)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _is_secret(name: str, value: object) -> bool:
    if name == "store_url":
        return isinstance(value, str) and shown(value) != value
    field = DeploymentSettings.model_fields.get(name)
    # Whoever adds middleware, or tells a server about a certificate, may have put one among the arguments.
    is_free = field is not None and kind(field).shape in (Shape.MAPPING, Shape.LIST)
    return is_free and masked(name, value) != value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check(values: JSONObject) -> None:
    """Raise unless a settings file can hold this, and says the same when it is read."""
    try:
        text = settings_text(values)
        to_json(values)
        same = read(text).value == values and len(text.encode()) <= LARGEST
    except DocumentError as error:
        raise _refusal(error.message) from None
    except ValueError as error:  # infinity, NaN, half a surrogate pair
        raise _refusal(str(error)) from None
    if not same:
        raise _refusal(f"it has more than {LARGEST // 1024} KiB, or values that no settings file can hold")


def _refusal(reason: str) -> SettingsError:
    return SettingsError([SettingsIssue("settings", f"cannot be kept in a snapshot: {reason}")])
