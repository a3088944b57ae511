"""The value of a generator: its items, joined when they are text."""

import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)

_STREAM_TYPES = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)


def item_type(annotation: object) -> object | None:
    """Return the item type of a generator's return annotation (`Iterator[str]` gives str), or None when it names none."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in _STREAM_TYPES:
        return typing.get_args(annotation)[0]  # type: ignore[no-any-return]  # get_args gives Any by design
    return None


def is_text(function: Callable[..., object]) -> bool:
    """True for a generator function declared as an iterator of str."""
    returned = typing.get_type_hints(function, include_extras=True).get("return", types.NoneType)
    return item_type(returned) is str


def joined(items: list[object], text: bool) -> object:
    """Return the value of a generator that yielded `items`."""
    return "".join(map(str, items)) if text else items
