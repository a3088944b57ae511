"""What FastAPI itself says of routes that are its own, for the deployment's OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from asgipipe.http.endpoint import Endpoint, Operation
from asgipipe.http.openapi import refusals
from asgipipe.http.types import Receive, Scope, Send

Object = Mapping[str, Any]  # any JSON object


def described(app: FastAPI, *, auth_required: bool = True) -> Iterator[Endpoint]:
    """Yield a row for each operation in the document of `app`; nothing is served by them."""
    document: Object = app.openapi()
    components: Object = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            made = _operation(operation, components)
            yield Endpoint(path, method.upper(), _nothing, made.operation_id, auth_required, made)


def _operation(given: Object, components: Object) -> Operation:
    responses: dict[str, Any] = dict(given.get("responses", {}))
    if "422" in responses:  # FastAPI documents its own, and the answer is ours
        responses |= refusals(422)
    return Operation(
        operation_id=given["operationId"],
        summary=given.get("summary", ""),
        description=given.get("description", ""),
        tags=tuple(given.get("tags", ())),
        parameters=tuple(given.get("parameters", ())),
        request_body=given.get("requestBody"),
        responses=responses,
        components={name: schema for name, schema in components.items() if name not in _REPLACED},
    )


_REPLACED = frozenset({"HTTPValidationError", "ValidationError"})
"""The schemas of FastAPI's own 422."""


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("a row of the document is not served")
