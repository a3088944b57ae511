"""What steps return, as JSON."""

from pydantic_core import to_json

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.observer import ObservedStep

_UNNAMED = ("output",)

LARGE = 64 * 1024
"""Bytes of JSON beyond which a payload is kept in a file."""


def dump_outputs(step: ObservedStep, value: object) -> bytes:
    """Return the outputs of a step by name, as the JSON text of an object.

    What has no JSON form is told by its class: a payload that cannot be kept is no reason for a run to fail.
    """
    try:
        names = step.output_names
    except DefinitionError:
        names = _UNNAMED
    if len(names) == 1:
        outputs = {names[0]: value}
    elif len(names) > 1 and isinstance(value, tuple) and len(value) == len(names):
        outputs = dict(zip(names, value, strict=True))
    else:
        outputs = {_UNNAMED[0]: value}
    try:
        return to_json(outputs, inf_nan_mode="null", fallback=_described)
    except Exception:  # boundary: serialisers of the user's may raise anything, and cycles and lone surrogates do, too
        return to_json({name: _described(one) for name, one in outputs.items()})


def _described(value: object) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
