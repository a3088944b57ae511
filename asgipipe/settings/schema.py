"""The JSON Schema of a settings file, for editors that complete and check YAML."""

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from asgipipe.settings.capture import Capture
from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.pipeline import PipelineSection
from asgipipe.settings.sections import Section

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Settings(Section):
    deployment: DeploymentSettings | None = Field(default=None, description="The settings of the deployment.")


class _File(Section):
    settings: _Settings | None = Field(default=None, description="Settings, by what they are about.")
    pipeline: PipelineSection | None = Field(default=None, description="Options of the pipeline itself.")
    capture: Capture | None = Field(default=None, description="What a run leaves behind.")


def file_schema() -> JsonSchemaValue:
    """Return the schema of the whole file, in the 2020-12 dialect."""
    schema = _File.model_json_schema(mode="validation")
    about = {"title": "asgipipe settings", "description": "What a settings file of asgipipe may hold."}
    return {"$schema": DIALECT, **schema, **about}
