"""Lists that are bounded, and the places at which they are read on."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from asgipipe.errors import DeploymentError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Sequence[T], Generic[T]):
    """Some of the items of a list; `next_cursor` is where it is read on, None at its end."""

    items: tuple[T, ...] = ()
    next_cursor: str | None = None

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.items[index]


def cursor_after(key: str) -> str:
    return urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def key_before(cursor: str) -> str:
    """Return the key that a cursor comes after. Raises DeploymentError for one that is none of ours."""
    try:
        key = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        key = ""
    if not key or cursor_after(key) != cursor:
        raise DeploymentError("cursor: give the one of a page before, as it was")
    return key
