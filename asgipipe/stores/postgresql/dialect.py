"""The SQL of operations in psycopg's words."""

import re
from collections.abc import Sequence
from functools import lru_cache

from asgipipe.stores.database import Value

# A literal is left as it is, but for the per cent sign, which psycopg reads in literals, too.
_MARKS = re.compile(r"'(?:[^']|'')*'|[?%]")


@lru_cache(maxsize=1024)
def translated(sql: str) -> bytes:
    """Return `sql` with `%s` for each `?`."""
    return _MARKS.sub(_mark, sql).encode()


def _mark(found: re.Match[str]) -> str:
    text = found[0]
    return "%s" if text == "?" else text.replace("%", "%%")


def storable(values: Sequence[Value]) -> list[Value]:
    """Return parameters that PostgreSQL can keep: its texts hold no NUL, which becomes U+FFFD."""
    return [value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value for value in values]
