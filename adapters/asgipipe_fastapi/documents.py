"""What FastAPI is told about a deployment's endpoints, for the OpenAPI document of a host."""

from collections.abc import Mapping
from typing import Any, cast

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from asgipipe.http.endpoint import Endpoint
from asgipipe.http.openapi import PROBLEM_SCHEMAS, REFUSALS, RESPONSES, TEMPLATE, openapi_document
from asgipipe.runners.deployment import Deployment

Object = dict[str, Any]  # any JSON object, and any keyword arguments of a FastAPI route

SHARED = 503
"""The refusal that every operation has: FastAPI documents one answer as the route's own, and takes its media type for
those of all models."""


class Problem(BaseModel):
    """Stands for the schema of our problem documents, so that FastAPI puts it among the components."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _inlined(PROBLEM_SCHEMAS[cls.__name__], {"components": {"schemas": PROBLEM_SCHEMAS}})


class ValidationProblem(Problem):
    pass


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


MODELS = {model.__name__: model for model in (Problem, ValidationProblem)}


class Documents:
    """Has, for each endpoint, the arguments by which FastAPI documents its route.

    Schemas are written out where they are used: a host's components have names of its own, and those of two deployments
    would meet there. What refers to itself is written out once.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._document: Object = openapi_document(
            title="",
            description="",
            version="",
            endpoints=deployment.app_runner.routes.endpoints,
            has_keys=bool(deployment.auth_keys),
        )

    def options(self, endpoint: Endpoint) -> Object:
        methods: Object = self._document["paths"].get(TEMPLATE.sub(r"{\1}", endpoint.path), {})
        operation: Object | None = methods.get(endpoint.method.lower())
        if operation is None:
            return {"include_in_schema": False}
        extra: Object = {key: operation[key] for key in ("parameters", "requestBody") if key in operation}
        return {
            "summary": operation["summary"],
            "description": operation.get("description"),
            "tags": operation.get("tags"),
            "responses": {
                int(status): self._response(int(status), one) for status, one in operation["responses"].items()
            },
            "openapi_extra": _inlined(extra, self._document),
            "status_code": SHARED,
            "response_class": ProblemResponse,
            "response_model": Problem,
            "response_description": REFUSALS[SHARED].description,
        }

    def _response(self, status: int, answer: Object) -> Object:
        response = _inlined(answer, self._document)
        if answer.get("$ref", "").startswith(RESPONSES):
            del response["content"]
            response["model"] = MODELS[REFUSALS[status].schema]
        return response


def _inlined(value: Mapping[str, Any], document: Mapping[str, Any], within: tuple[str, ...] = ()) -> Object:
    """Return a JSON object with what its references to `document` lead to in their place."""
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return {key: _member(key, member, document, within) for key, member in value.items()}
    if reference in within:
        return {}
    found: Any = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    beside = {key: member for key, member in value.items() if key != "$ref"}
    return _inlined({**found, **beside}, document, (*within, reference))


def _member(key: str, value: object, document: Mapping[str, Any], within: tuple[str, ...]) -> object:
    if isinstance(value, Mapping):
        # A discriminator's mapping leads to components by name.
        kept = {name: value[name] for name in value if name != "mapping"} if key == "discriminator" else value
        return _inlined(cast(Mapping[str, Any], kept), document, within)
    if isinstance(value, list | tuple):
        return [_member("", item, document, within) for item in value]
    return value
