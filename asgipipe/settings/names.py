"""Members of enumerations given by name, in any case."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pydantic.json_schema import JsonSchemaValue

LONGEST_ECHO = 60
"""Characters of a wrong name that an error repeats."""


def unknown(name: str, known: Iterable[str]) -> str:
    """Say that `name` is none of the `known` ones, and which of them may have been meant."""
    known = list(known)
    near = get_close_matches(name.upper(), known, n=1)
    way_out = f"did you mean {near[0]}?" if near else f"the names are {', '.join(known)}"
    return f"{name[:LONGEST_ECHO]!r} is not a known name; {way_out}"


def schema(names: Iterable[str]) -> list[JsonSchemaValue]:
    """Return the JSON schemas of one name: an enumeration that editors complete from, and the same in any case."""
    names = list(names)
    pattern = "|".join("".join(_either_case(letter) for letter in name) for name in names)
    return [{"type": "string", "enum": names}, {"type": "string", "pattern": f"^({pattern})$"}]


def _either_case(letter: str) -> str:
    return f"[{letter.upper()}{letter.lower()}]" if letter.isalpha() else re.escape(letter)
