"""What pydantic found, in the words of a settings file and with the place of each mistake."""

import re
from collections.abc import Callable, Iterable, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from asgipipe.errors import SettingsIssue
from asgipipe.settings.fields import did_you_mean, model_at, public
from asgipipe.settings.layers import Layer
from asgipipe.settings.sections import Path

_POSITION = re.compile(r"(.*):(\d+):(\d+)", re.DOTALL)

_MESSAGES = {
    "extra_forbidden": "unknown field",
    "missing": "required, but not given",
    "string_type": "expected text; put it in quotes",
    "string_too_short": "may not be empty",
    "string_too_long": "has {max_length} characters at most",
    "string_unicode": "expected text in UTF-8",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:.15g} or less",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "invalid_key": "expected a key that is text",
    "literal_error": "expected {expected}",
}


def issues_of(error: ValidationError, model: type[BaseModel], owner: Callable[[Path], Layer]) -> list[SettingsIssue]:
    """Return the mistakes in `error`; `owner` tells which layer a value came from. No value is ever repeated."""
    return [_issue(details, model, owner) for details in error.errors(include_url=False, include_input=False)]


def in_order(issues: Iterable[SettingsIssue]) -> list[SettingsIssue]:
    """Sort by place, those of a file by line and column."""

    def position(issue: SettingsIssue) -> tuple[str, int, int]:
        match = _POSITION.fullmatch(issue.place or "")
        return (match[1], int(match[2]), int(match[3])) if match else (issue.place or "", 0, 0)

    return sorted(issues, key=position)


def _issue(details: ErrorDetails, model: type[BaseModel], owner: Callable[[Path], Layer]) -> SettingsIssue:
    path = public(model, tuple(part for part in details["loc"] if part != "[key]"))
    suggestion = _suggestion(model, path) if details["type"] == "extra_forbidden" else None
    return owner(path).issue(path, _message(details), suggestion)


def _message(details: ErrorDetails) -> str:
    context: Mapping[str, object] = details.get("ctx", {})
    template = _MESSAGES.get(details["type"])
    return template.format(**context) if template else details["msg"]


def _suggestion(model: type[BaseModel], path: Path) -> str | None:
    around = model_at(model, path[:-1])
    return did_you_mean(str(path[-1]), around.model_fields) if around else None
