"""The value of a generator: its items, joined when they are text."""

import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)

_STREAM_TYPES = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)


def item_type(annotation: object) -> object | None:
    """Return the item type of a generator's return annotation (`Iterator[str]` gives str), None when it names none."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in _STREAM_TYPES:
        return typing.get_args(annotation)[0]  # type: ignore[no-any-return]  # get_args gives Any by design
    return None


def is_text(hints: Mapping[str, object]) -> bool:
    """True for the annotations of a generator function that is declared as an iterator of str."""
    return item_type(hints.get("return")) is str


def joined(items: list[object], text: bool) -> object:
    """Return the value of a generator that yielded `items`."""
    return "".join(map(str, items)) if text else items
