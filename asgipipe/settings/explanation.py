"""Every value in force and where it came from, with secrets hidden."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from asgipipe.settings.keys import MASK
from asgipipe.settings.resolution import Resolved

_SECRET_NAME = re.compile(
    r"passw|secret|token|credential|private|api_?key|auth_?key|(^|_)(dsn|pwd)($|_)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Explained:
    """One field: `value` is JSON, with secrets masked; `origin` is a place, a layer, or `default`."""

    path: str
    value: object
    origin: str


def explain(resolved: Resolved) -> list[Explained]:
    """Return one row for every field, in the order of the model, sections taken apart."""
    values = shown(resolved)
    rows = []
    for path, origin in resolved.origins.items():
        value: object = values
        for part in path.split("."):
            value = value[part] if isinstance(value, Mapping) else None
        rows.append(Explained(path, value, origin))
    return rows


def shown(resolved: Resolved) -> dict[str, object]:
    """Return the settings as JSON values.

    Keys are masked, and in the free dictionaries every text whose name sounds like a secret; an object that has no JSON
    form appears as the name of its class.
    """
    text = resolved.settings.model_dump_json(fallback=lambda value: f"<{type(value).__qualname__}>")
    values: dict[str, object] = json.loads(text)
    return {name: masked(name, value) for name, value in values.items()}


def masked(name: str, value: object) -> object:
    """Return JSON with a mask for every text that stands under a name which sounds like a secret."""
    if isinstance(value, dict):
        return {key: masked(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(name, item) for item in value]
    return MASK if isinstance(value, str) and _SECRET_NAME.search(name) else value
