"""The `pipeline:` section of a settings file."""

from typing import Annotated

from pydantic import Field

from asgipipe.settings.references import Reference, Target
from asgipipe.settings.sections import Section


class PipelineSection(Section):
    """Options of the pipeline itself; what is not given leaves the pipeline as its decorator made it."""

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="The pipeline's name."
    )
    blocking: bool | None = Field(
        default=None,
        description="False promises that a sync pipeline never waits, and runs it without a thread.",
    )
    on_init: Annotated[Target, Reference()] | None = Field(
        default=None, description="Called at start, once per process; what it returns is the pipeline's state."
    )
    on_init_kwargs: dict[str, object] | None = Field(default=None, description="Keyword arguments for on_init.")
    on_cleanup: Annotated[Target, Reference()] | None = Field(
        default=None, description="Called at stop, once per process, with the state when it takes an argument."
    )
    on_cleanup_kwargs: dict[str, object] | None = Field(default=None, description="Keyword arguments for on_cleanup.")
    input_model: Annotated[Target, Reference()] | None = Field(
        default=None, description="The pydantic model of the parameters, for a callable without annotations."
    )
    output_model: Annotated[Target, Reference()] | None = Field(
        default=None, description="The pydantic model of the outputs, for a callable without annotations."
    )
