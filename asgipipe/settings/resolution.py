"""From layers to settings: laid over each other, validated once, each value with its origin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.fields import Shape, dotted, every_field, kind, section
from asgipipe.settings.issues import in_order, issues_of
from asgipipe.settings.layers import Layer
from asgipipe.settings.sections import Path, Section

DEFAULT = Layer("default")


@dataclass(frozen=True, slots=True)
class Resolved:
    """`origins` says, by the dotted path of every field, where its value was written; `default` where nowhere."""

    settings: DeploymentSettings
    origins: Mapping[str, str]


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Lay `layers` over each other, the last one on top, and validate the result.

    Sections merge field by field; every other value replaces the one below it. Raises SettingsError with all mistakes:
    those of the layers, and those of the values that are on top.
    """
    layers = sorted(_with_parts(layers), key=lambda part: not part.lowest)
    merged = _Merged(layers)
    issues = [issue for layer in layers for issue in layer.issues]
    settings, found = _validated(merged)
    issues += found
    if issues or settings is None:
        raise SettingsError(in_order(issues))
    origins = {
        dotted(path): merged.owner(path).place(path)
        for path, field in every_field()
        if kind(field).shape is not Shape.SECTION
    }
    return Resolved(settings, origins)


def laid_over(layers: Iterable[Layer]) -> dict[str, object]:
    """Return the values of `layers` as one layer has them that means the same, above others; nothing is validated.

    Parts that are `lowest` have no place in it.
    """
    return _Merged(part for part in _with_parts(layers) if not part.lowest).values


def _with_parts(layers: Iterable[Layer]) -> list[Layer]:
    return [part for layer in layers for part in (layer, *layer.parts)]


def _validated(merged: "_Merged") -> tuple[DeploymentSettings | None, list[SettingsIssue]]:
    try:
        return DeploymentSettings.model_validate(merged.values), []
    except ValidationError as error:
        return None, issues_of(error, DeploymentSettings, merged.owner)


class _Merged:
    """The values of all layers, and which layer each is of."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.values: dict[str, object] = {}
        self._owners: dict[Path, Layer] = {}
        for layer in layers:
            self._lay(layer, layer.values, self.values, DeploymentSettings, ())

    def owner(self, path: Path) -> Layer:
        """Return the layer that the value at `path`, or the nearest value around it, is of."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._owners:
                return self._owners[path[:end]]
        return DEFAULT

    def _lay(
        self, layer: Layer, values: Mapping[str, object], onto: dict[str, object], model: type[BaseModel], base: Path
    ) -> None:
        for name, value in values.items():
            path = (*base, _part(name))
            inner = section(model, name)
            long = inner.long_form(value) if inner is not None and issubclass(inner, Section) else value
            if inner is None or not isinstance(long, Mapping):
                onto[name] = value
                self._owners[path] = layer
                continue
            below = onto.get(name)
            if not isinstance(below, dict) or getattr(inner, "decided_by", None) in long:
                below = onto[name] = {}
                self._forget(path)
            self._lay(layer, long, below, inner, path)

    def _forget(self, path: Path) -> None:
        for known in [known for known in self._owners if known[: len(path)] == path]:
            del self._owners[known]


def _part(name: object) -> str | int:
    """Return `name` as pydantic's errors have it, whatever Python code used as a key."""
    return name if isinstance(name, str | int) else str(name)
