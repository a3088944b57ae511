"""Values that pydantic refused, as the answer the client gets: where, what, but never the value itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator

from asgipipe.errors import BadRequestError, HTTPError, ValidationError
from asgipipe.pipelines.coreschema import bounded_validator

MAX_ENTRIES = 100
MAX_MESSAGE = 500
"""Characters of one message; texts of users' own validators can be of any length."""

LARGE = 16 * 1024
"""Bytes from which on a body is validated with bounded errors; all that can be wrong in less is found within 3 ms."""

# Listing this many errors takes some 50 ms; a body of 16 MiB can hold millions.
_MAX_LISTABLE = 10_000
_MAX_DEPTH = 20
_MAX_NAME = 100

NEUTRAL = {
    "bytes_invalid_encoding": "Data is not in the expected encoding",
    "get_attribute_error": "Input has an attribute that cannot be read",
    "import_error": "Input is not an import string that can be imported",
    "iteration_error": "Input cannot be iterated over",
    "mapping_type": "Input should be a valid mapping",
    "union_tag_invalid": "Input has a tag that is none of the expected ones",
    "url_parsing": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
}
"""What is said in place of pydantic's own messages that quote the input, by the type of the error."""


class BodyValidator:
    """Validates the JSON text of a body, in pydantic's strict mode.

    It holds the event loop for as long as that takes, some 30 to 200 ms for each MiB. A thread would be no help:
    pydantic keeps the interpreter lock. `max_request_body_size` is the bound.
    """

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._bounded: SchemaValidator | None = None

    def validate(self, body: bytes) -> Any:  # whatever the adapter's type is
        """Return the value. Raises pydantic.ValidationError, and whatever validators of the user's raise."""
        if len(body) <= LARGE:
            return self._adapter.validator.validate_json(body, strict=True)
        if self._bounded is None:  # a second validator costs memory that most deployments never need
            self._bounded = bounded_validator(self._adapter)
        return self._bounded.validate_json(body, strict=True)


def refusal(error: pydantic.ValidationError, prefix: tuple[str | int, ...] = ()) -> HTTPError:
    """Return BadRequestError for what is not JSON at all, else ValidationError; `prefix` opens each `loc`."""
    found = entries(error, prefix)
    if found[0]["type"] == "json_invalid" and found[0]["loc"] == list(prefix):
        reason = error.errors(include_url=False, include_input=False)[0]["ctx"]["error"]
        return BadRequestError(f"The body is not valid JSON: {reason}."[:MAX_MESSAGE])
    return refused(found, error.error_count())


def refused(errors: Sequence[Mapping[str, object]], count: int | None = None) -> ValidationError:
    """Return the 422 for entries already made; `count` is given when they are not all."""
    count = len(errors) if count is None else count
    detail = "1 value was refused." if count == 1 else f"{count} values were refused."
    if count > MAX_ENTRIES:
        detail += f" The first {len(errors)} are listed." if len(errors) > 1 else ""
    return ValidationError(detail, errors=errors)


def entry(loc: Sequence[str | int], message: str, kind: str) -> dict[str, object]:
    """Return one entry of `errors`, each part of it bounded."""
    places = [_text(place, _MAX_NAME) if isinstance(place, str) else place for place in loc[:_MAX_DEPTH]]
    return {"loc": places, "msg": _text(message, MAX_MESSAGE), "type": _text(kind, _MAX_NAME)}


def entries(error: pydantic.ValidationError, prefix: tuple[str | int, ...] = ()) -> list[dict[str, object]]:
    """Return the first MAX_ENTRIES entries; one that only counts them when even listing them would take too long."""
    if error.error_count() > _MAX_LISTABLE:
        return [entry(prefix, f"{error.error_count()} values are wrong, too many to list", "too_many_errors")]
    found = error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ENTRIES]
    return [entry((*prefix, *one["loc"]), NEUTRAL.get(one["type"], one["msg"]), one["type"]) for one in found]


def _text(text: str, size: int) -> str:
    short = text if len(text) <= size else f"{text[: size - 1]}…"
    # Names may come from anywhere; a lone surrogate has no UTF-8 form.
    return short if short.isascii() else short.encode("utf-8", "replace").decode()
