"""Values from where there is only text: the environment and the command line."""

import json
import re
from typing import NoReturn

from pydantic.fields import FieldInfo

from asgipipe.errors import SettingsIssue
from asgipipe.settings.fields import Shape, dotted, kind
from asgipipe.settings.layers import Layer
from asgipipe.settings.sections import Path, Section

_DIGITS = re.compile(r"[0-9]{1,9}")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_EXAMPLES = {
    Shape.NAMES: 'a list such as ["a", "b"], or a,b',
    Shape.LIST: 'a list such as [{"name": "value"}]',
    Shape.MAPPING: 'an object such as {"name": "value"}',
    Shape.SECTION: 'an object such as {"name": "value"}',
}


class TextLayer:
    """Collects texts into a layer."""

    def __init__(self) -> None:
        self._values: dict[str, object] = {}
        self._places: dict[Path, str] = {}
        self._issues: list[SettingsIssue] = []

    def put(self, path: tuple[str, ...], field: FieldInfo, value: object, place: str) -> None:
        """Add the value of `field` at `path`; a text is parsed. Sections come before what is in them."""
        self._places[path] = place
        try:
            parsed = parse(field, value) if isinstance(value, str) else value
        except ValueError as error:
            self.refuse(SettingsIssue(dotted(path), str(error), place))
            return
        around: object = self._values
        for part in path[:-1]:
            around = around.setdefault(part, {}) if isinstance(around, dict) else None
        if isinstance(around, dict):  # else the section is no mapping, which is reported when it is validated
            around[path[-1]] = parsed

    def refuse(self, issue: SettingsIssue) -> None:
        self._issues.append(issue)

    def layer(self, name: str) -> Layer:
        return Layer(name, self._values, self._places, issues=tuple(self._issues))


def parse(field: FieldInfo, text: str) -> object:
    """Return what `text` stands for in `field`; pydantic makes numbers and the like of the rest.

    `null` is None where a field may be None. Lists, mappings and sections are JSON; a list of texts may also be given
    as `a,b`. A key is taken literally unless it is a JSON list. ValueError says what was expected, without
    repeating `text`.
    """
    found = kind(field)
    if found.shape is Shape.SECRET:
        return _secret(text)
    if found.nullable and text.strip() == "null":
        return None
    if found.shape is Shape.FLAG:
        return _flag(text)
    if found.shape is Shape.NAMES and not text.lstrip().startswith("["):
        return _split(text)
    if found.model is not None and issubclass(found.model, Section) and (long := found.model.long_form(text)) != text:
        return long
    if found.shape in _EXAMPLES:
        return _json(text, _EXAMPLES[found.shape])
    return text


def _secret(text: str) -> object:
    try:
        value = load(text)
    except ValueError:
        return text
    return value if isinstance(value, list) else text


def _flag(text: str) -> object:
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    if _DIGITS.fullmatch(text.strip()):
        return int(text)
    if text.lstrip().startswith("["):
        return _json(text, _EXAMPLES[Shape.NAMES])
    return _split(text)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _json(text: str, example: str) -> object:
    try:
        return load(text)
    except ValueError as error:
        where = f" (line {error.lineno} column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"expected JSON, {example}{where}") from None


def load(text: str) -> object:
    """Read JSON as RFC 8259 has it: no NaN, no name twice in an object. ValueError otherwise."""
    try:
        value: object = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
