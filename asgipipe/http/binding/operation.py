"""What the OpenAPI document says about a handler."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from asgipipe.http.binding.handler import Handler
from asgipipe.http.binding.parameters import Arguments, EmbeddedBody, TextArguments
from asgipipe.http.binding.result import Result
from asgipipe.http.binding.schemas import REFERENCE, SchemaGenerator
from asgipipe.http.endpoint import Operation
from asgipipe.http.openapi import SCHEMAS, refusals

Schema = dict[str, object]

TAGS = ("Endpoints",)


def describe(name: str, handler: Handler, arguments: Arguments, result: Result) -> Operation:
    """Return the operation of a handler; its summary is the first line of the docstring, its description the rest."""
    schemas = _Schemas(arguments, result)
    summary, _, description = handler.doc.partition("\n")
    statuses = _refused(arguments)
    return Operation(
        operation_id=name,
        summary=summary.strip() or name.replace("_", " ").strip().capitalize(),
        description=description.strip(),
        tags=TAGS,
        parameters=tuple(_parameters(arguments, schemas)),
        request_body=_request_body(arguments, schemas),
        responses={"200": _response(result, schemas), **refusals(*statuses)},
        components=schemas.components,
    )


class _Schemas:
    """The schemas of everything a handler takes and gives, made together so that their names do not clash."""

    def __init__(self, arguments: Arguments, result: Result) -> None:
        wanted: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
            (source.location.value, "validation", TypeAdapter(source.model))
            for source in (arguments.path, arguments.query)
            if source is not None
        ]
        if arguments.body is not None:
            wanted.append(("body", "validation", arguments.body.adapter))
        if result.adapter is not None:
            wanted.append(("result", "serialization", result.adapter))
        made, definitions = TypeAdapter.json_schemas(wanted, ref_template=REFERENCE, schema_generator=SchemaGenerator)
        self._made = {key: schema for (key, _), schema in made.items()}
        self.components: dict[str, Schema] = definitions.get("$defs", {})

    def of(self, key: str) -> Schema:
        return self._made[key]

    def inline(self, key: str) -> Schema:
        """Return the schema of a model of ours, which is no component: nobody knows its name."""
        schema = self._made[key]
        reference = schema.get("$ref")
        if isinstance(reference, str):
            schema = self.components.pop(reference.removeprefix(SCHEMAS))
        return {member: value for member, value in schema.items() if member != "title"}


def _parameters(arguments: Arguments, schemas: _Schemas) -> Iterator[Schema]:
    for source in (arguments.path, arguments.query):
        if source is not None:
            yield from _parameters_in(source, schemas.inline(source.location.value))


def _parameters_in(source: TextArguments, schema: Schema) -> Iterator[Schema]:
    required = cast("list[str]", schema.get("required", []))
    properties = cast("dict[str, Schema]", schema["properties"])
    for parameter in source.parameters:
        own = _as_text(properties[parameter.wire])
        described = {"description": own.pop("description")} if "description" in own else {}
        yield {
            "name": parameter.name if source.location.value == "path" else parameter.wire,
            "in": source.location.value,
            "required": source.location.value == "path" or parameter.wire in required,
            **described,
            "schema": own,
        }


def _as_text(schema: Schema) -> Schema:
    """Return a parameter's schema without null, which cannot be written in a URL; leaving it out means the default."""
    own = dict(schema)
    if own.get("default", ...) is None:
        del own["default"]
    alternatives = [one for one in cast("list[Schema]", own.pop("anyOf", [])) if one != {"type": "null"}]
    if len(alternatives) == 1:
        return {**alternatives[0], **own}
    return {"anyOf": alternatives, **own} if alternatives else own


def _request_body(arguments: Arguments, schemas: _Schemas) -> Mapping[str, object] | None:
    if arguments.body is None:
        return None
    schema = schemas.inline("body") if isinstance(arguments.body, EmbeddedBody) else schemas.of("body")
    return {"required": arguments.body.required, "content": {"application/json": {"schema": schema}}}


def _response(result: Result, schemas: _Schemas) -> Mapping[str, object]:
    content: dict[str, object] = {}
    if result.adapter is not None:
        content["application/json"] = {"schema": schemas.of("result")}
    if result.streams:
        content["text/plain"] = {"schema": {"type": "string"}}
    if result.answers_itself:
        content["*/*"] = {}
    return {"description": "What the handler returns.", "content": content or {"application/json": {"schema": {}}}}


def _refused(arguments: Arguments) -> list[int]:
    statuses = [429, 500, 503, 504]
    if arguments.query is not None or arguments.body is not None:
        statuses.append(400)
    if arguments.body is not None:
        statuses += [408, 413, 415]
    if arguments.path is not None or arguments.query is not None or arguments.body is not None:
        statuses.append(422)
    return statuses
