"""What one place says about the settings, with the mistakes found while it was read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from asgipipe.errors import SettingsIssue
from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.fields import dotted
from asgipipe.settings.sections import Path


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place, nested as the models are; nothing in them is validated yet.

    `places` says where single values were written. `prefix` stands before the path of a field in errors. `issues` are
    mistakes that only the reader of the place can see; `resolve` raises them together with its own. `parts` are what
    the same place says elsewhere; one that is `lowest` lies below all other layers.
    """

    name: str
    values: Mapping[str, object] = field(default_factory=dict)
    places: Mapping[Path, str] = field(default_factory=dict)
    prefix: Path = ()
    issues: tuple[SettingsIssue, ...] = ()
    parts: "tuple[Layer, ...]" = ()
    lowest: bool = False

    def place(self, path: Path) -> str:
        """Return where the value at `path` was written, or the nearest value around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name

    def issue(self, path: Path, message: str, suggestion: str | None = None) -> SettingsIssue:
        """Return a mistake at `path`, with its place."""
        return SettingsIssue(dotted((*self.prefix, *path)), message, self.place(path), suggestion)


SettingsLike = DeploymentSettings | Mapping[str, object]


def python_layer(settings: SettingsLike | None, name: str) -> Layer:
    """Return the layer of settings given in Python; of a model, only the fields that were set explicitly count.

    `name` says where they were given, such as `decorator`.
    """
    if settings is None:
        return Layer(name)
    if isinstance(settings, DeploymentSettings):
        return Layer(name, _explicit(settings))
    if isinstance(settings, Mapping):
        return Layer(name, {key: _plain(value) for key, value in settings.items()})
    message = f"expected DeploymentSettings or a mapping, not {type(settings).__name__}"
    return Layer(name, issues=(SettingsIssue("settings", message, name),))


def _explicit(model: BaseModel) -> dict[str, object]:
    return {name: _plain(getattr(model, name)) for name in type(model).model_fields if name in model.model_fields_set}


def _plain(value: object) -> object:
    return _explicit(value) if isinstance(value, BaseModel) else value
