"""What steps return, as JSON."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic_core import to_json

from asgipipe.errors import DefinitionError

if TYPE_CHECKING:
    from asgipipe.pipelines.step import Step

LARGE = 64 * 1024
"""Bytes of JSON beyond which a payload is kept in a file."""


def dump_outputs(step: "Step[..., object]", value: object) -> bytes:
    """Return the outputs of a step by name, as the JSON text of an object.

    What has no JSON form is told by its class: a payload that cannot be kept is no reason for a run to fail.
    """
    try:
        names = step.output_names
    except DefinitionError:
        names = ("output",)
    if len(names) == 1:
        return b"%b%b}" % (_opening(names[0]), _dump(value))
    if not isinstance(value, tuple) or len(value) != len(names):
        return b'{"output":%b}' % _dump(value)
    return _dump(dict(zip(names, value, strict=True)))


@lru_cache(maxsize=1024)
def _opening(name: str) -> bytes:
    return b"{%b:" % to_json(name)


def _dump(value: object, dump: Callable[..., bytes] = to_json) -> bytes:
    try:
        return dump(value, inf_nan_mode="null", fallback=_described)
    except Exception:  # boundary: serialisers of the user's may raise anything, and cycles and lone surrogates do, too
        return to_json(_described(value))


def _described(value: object) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
