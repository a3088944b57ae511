"""Outputs as the caller's types."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypedDict

from asgipipe.client.errors import OutputMismatchError
from asgipipe.pipelines.contract import UNUSABLE, unusable
from asgipipe.pipelines.pipeline import Pipeline

Decode = Callable[[Mapping[str, Any]], object]
"""Returns the caller's type for outputs by name. Raises pydantic's ValidationError."""


def decoder(pipeline: Pipeline[..., Any] | None, output_type: object | None) -> Decode | None:
    """Return what reads outputs: as what the pipeline returns, or as a type for the object of all outputs.

    Raises DefinitionError for what pydantic cannot take as a type.
    """
    if pipeline is not None and output_type is not None:
        raise TypeError("give the pipeline or the output_type: the pipeline has its own")
    if pipeline is not None:
        return _of_pipeline(pipeline)
    if output_type is None:
        return None
    try:
        adapter: TypeAdapter[object] = TypeAdapter(output_type)  # type: ignore[arg-type]  # whatever pydantic takes
    except UNUSABLE as error:
        raise unusable("output_type", getattr(output_type, "__qualname__", str(output_type)), error) from error
    return lambda outputs: adapter.validate_json(to_json(outputs))


def _of_pipeline(pipeline: Pipeline[..., Any]) -> Decode:
    shape = pipeline.contract.shape
    fields = {name: Any if kind is object else kind for name, kind in zip(shape.names, shape.annotations, strict=True)}
    made: type = TypedDict("Outputs", fields)  # type: ignore[misc]  # made at run time
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(made)  # type: ignore[arg-type]  # made at run time

    def decode(outputs: Mapping[str, Any]) -> object:
        # From JSON, not from what it was parsed to: only so a list becomes a tuple, and a text a time or bytes, as the
        # deployment wrote them.
        values = adapter.validate_json(to_json(outputs))
        return tuple(values[name] for name in shape.names) if shape.multiple else values[shape.names[0]]

    return decode


def decoded(decode: Decode, url: str, outputs: Mapping[str, Any]) -> object:
    """Return outputs as the caller's type. Raises OutputMismatchError."""
    try:
        return decode(outputs)
    except ValidationError as error:
        places = ", ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)[:5]
        )
        reason = f"answered outputs that are not of the type expected: {places}; it may serve another version"
        raise OutputMismatchError(url, reason) from None
