"""Lists of the registry, read page by page."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from asgipipe.deployers.registry import Page

T = TypeVar("T")


def items(page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield what is on all pages; `page` returns the one at a cursor."""
    cursor: str | None = None
    while True:
        found = page(cursor)
        yield from found
        cursor = found.next_cursor
        if cursor is None:
            return
