"""What FastAPI refuses, as the problem documents that clients of ours know."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import ValidationException

from asgipipe.errors import BadRequestError, HTTPError
from asgipipe.http.validation import MAX_ENTRIES, MAX_MESSAGE, NEUTRAL, entry, refused


def refusal(error: ValidationException) -> HTTPError:
    """Return the 422 for values that FastAPI refused, without the values; 400 for a body that is no JSON."""
    errors: Sequence[Mapping[str, Any]] = error.errors()
    reason = _not_json(errors[0]) if errors else None
    if reason is not None:
        return BadRequestError(reason[:MAX_MESSAGE])
    listed = [entry(one["loc"], NEUTRAL.get(one["type"], one["msg"]), one["type"]) for one in errors[:MAX_ENTRIES]]
    return refused(listed, len(errors))


def _not_json(error: Mapping[str, Any]) -> str | None:
    """Return why a whole body is no JSON; a value inside of it that should be JSON text is a refused value."""
    if error["type"] != "json_invalid" or error["msg"] != "JSON decode error":
        return None
    reason: str = error["ctx"]["error"]
    return reason if reason.startswith("The body ") else f"The body is not valid JSON: {reason}."
