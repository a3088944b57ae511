"""The query of a request: each parameter at most once, and nothing but what it may be."""

import re
from math import isfinite
from typing import TypeVar
from urllib.parse import parse_qs

from asgipipe.errors import BadRequestError
from asgipipe.http.types import Scope

Choice = TypeVar("Choice", bound=str)

_INTEGER = re.compile(r"-?[0-9]{1,12}")
_NUMBER = re.compile(r"-?[0-9.]{1,20}(?:[eE][+-]?[0-9]{1,3})?")


class Query:
    """Every method returns None for a parameter that is missing, and raises BadRequestError for one that is wrong."""

    def __init__(self, scope: Scope) -> None:
        # Servers pass the bytes on as they came; what is not UTF-8 becomes U+FFFD.
        self._values: dict[str, list[str]] = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """Return the member of an enumeration of texts."""
        value = self._one(name)
        if value is None:
            return None
        members = list(choices)  # type: ignore[call-overload]  # an enumeration of texts is its members
        for member in members:
            if member == value:
                return member  # type: ignore[no-any-return]  # see above
        *others, last = (f"'{member}'" for member in members)
        raise BadRequestError(f"The query parameter {name} can be {', '.join(others)} or {last}.")

    def integer(self, name: str, least: int, most: int) -> int | None:
        value = self._one(name)
        if value is None:
            return None
        if _INTEGER.fullmatch(value) and least <= int(value) <= most:
            return int(value)
        raise BadRequestError(f"The query parameter {name} can be a whole number from {least} to {most}.")

    def seconds(self, name: str, most: int) -> float | None:
        value = self._one(name)
        if value is None:
            return None
        if _NUMBER.fullmatch(value):
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if isfinite(number) and 0 <= number <= most:
                return number
        raise BadRequestError(f"The query parameter {name} can be a number of seconds from 0 to {most}.")

    def text(self, name: str, longest: int) -> str | None:
        """Return a text of at most `longest` characters."""
        value = self._one(name)
        if value is not None and len(value) > longest:
            raise BadRequestError(f"The query parameter {name} can have {longest} characters at most.")
        return value

    def _one(self, name: str) -> str | None:
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise BadRequestError(f"The query parameter {name} can be given once.")
        return values[0]
