"""What steps return, as JSON."""

from functools import lru_cache

from pydantic_core import to_json

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.observer import ObservedStep

LARGE = 64 * 1024
"""Bytes of JSON beyond which a payload is kept in a file."""


def dump_outputs(step: ObservedStep, value: object) -> bytes:
    """Return the outputs of a step by name, as the JSON text of an object.

    What has no JSON form is told by its class: a payload that cannot be kept is no reason for a run to fail.
    """
    try:
        names = step.output_names
    except DefinitionError:
        names = ("output",)
    if len(names) > 1 and isinstance(value, tuple) and len(value) == len(names):
        return _dump(dict(zip(names, value, strict=True)))
    return b"%b%b}" % (_opening(names[0] if len(names) == 1 else "output"), _dump(value))


@lru_cache(maxsize=1024)
def _opening(name: str) -> bytes:
    return b"{%b:" % to_json(name)


def _dump(value: object) -> bytes:
    try:
        return to_json(value, inf_nan_mode="null", fallback=_described)
    except Exception:  # boundary: serialisers of the user's may raise anything, and cycles and lone surrogates do, too
        return to_json(_described(value))


def _described(value: object) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
