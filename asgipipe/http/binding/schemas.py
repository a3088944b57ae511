"""JSON schemas as the OpenAPI document wants them."""

from pydantic.json_schema import JsonSchemaWarningKind

from asgipipe.pipelines import contract

REFERENCE = "#/components/schemas/{model}"


class SchemaGenerator(contract.SchemaGenerator):
    """A default without a JSON form is left out of the schema, in silence: it is Python's business alone."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as declared there
