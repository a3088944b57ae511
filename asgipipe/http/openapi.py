"""The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0), put together from the endpoints' operations."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic_core import to_json

from asgipipe.http.endpoint import Endpoint, Operation
from asgipipe.http.exchange import public_path
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import Receive, Scope, Send

VERSION = "3.1.0"
METHODS = frozenset({"get", "put", "post", "delete", "options", "patch", "trace"})
BODY_METHODS = frozenset({"post", "put", "patch", "delete"})
BEARER = "bearer"

SCHEMAS = "#/components/schemas/"
DEFINITIONS = "#/$defs/"
RESPONSES = "#/components/responses/"

# Operations that only read are answered however much there is to do.
UNTHROTTLED = frozenset({"health", "ready", "info", "metrics", "status", "openapi", "pipelines"})

PROBLEM_SCHEMAS: Mapping[str, Mapping[str, object]] = {
    "Problem": {
        "type": "object",
        "description": "A refused request (RFC 9457).",
        "properties": {
            "type": {"type": "string", "description": "A stable name, `urn:asgipipe:<slug>`."},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "run_id": {"type": "string"},
            "job_id": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
    },
    "ValidationProblem": {
        "description": "A body that was read and refused, with every place where it is wrong.",
        "allOf": [{"$ref": f"{SCHEMAS}Problem"}],
        "type": "object",
        "properties": {
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                        "msg": {"type": "string"},
                        "type": {"type": "string"},
                    },
                    "required": ["loc", "msg", "type"],
                },
            }
        },
    },
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that several operations share; `header` is what tells the client what to do next."""

    name: str
    description: str
    header: str | None = None
    schema: str = "Problem"


REFUSALS: Mapping[int, Refusal] = {
    400: Refusal("BadRequest", "The request cannot be read: no JSON, or a wrong query or header."),
    401: Refusal("Unauthorized", "The key is missing or wrong.", "www-authenticate"),
    404: Refusal("NotFound", "There is no such thing."),
    405: Refusal("MethodNotAllowed", "The path does not answer this method.", "allow"),
    408: Refusal("RequestTimeout", "The request did not arrive in time."),
    409: Refusal("Conflict", "It is too late for this, or too early: a job that has ended, a key that is in use."),
    413: Refusal("BodyTooLarge", "The body is larger than this deployment accepts."),
    415: Refusal("UnsupportedMediaType", "The body is not of a JSON content type."),
    422: Refusal("ValidationFailed", "The body is JSON, but not what is asked for.", schema="ValidationProblem"),
    429: Refusal("TooManyRequests", "As many requests run and wait as are allowed to.", "retry-after"),
    431: Refusal("HeadersTooLarge", "The header fields are too large or too many."),
    500: Refusal("InternalError", "The server failed; its log says why."),
    503: Refusal("Unavailable", "The deployment is starting, draining or not well.", "retry-after"),
    504: Refusal("DeadlinePassed", "The deadline of the request passed."),
    507: Refusal("StorageFull", "The server has no room left to keep this."),
}

HEADERS: Mapping[str, Mapping[str, object]] = {
    "x-request-id": {
        "description": "The request's id: the client's own if it is a sane one, else a new one.",
        "schema": {"type": "string", "maxLength": 128},
    },
    "www-authenticate": {"description": "The scheme to use, `Bearer`.", "schema": {"type": "string"}},
    "allow": {"description": "The methods of the path, separated by commas.", "schema": {"type": "string"}},
    "retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "location": {"description": "Where the job can be looked at.", "schema": {"type": "string"}},
    "preference-applied": {
        "description": "The preference of `Prefer` that was honoured (RFC 7240).",
        "schema": {"const": "respond-async"},
    },
    "idempotent-replayed": {
        "description": "Present when this is the answer to an earlier request with the same Idempotency-Key.",
        "schema": {"const": "true"},
    },
}

# Starlette's path converters (https://www.starlette.io/routing/#path-parameters).
TEMPLATE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
CONVERTERS: Mapping[str, Mapping[str, object]] = {
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}


def refusals(*statuses: int) -> dict[str, dict[str, object]]:
    """Return `responses` members for the statuses of REFUSALS; the document adds what they refer to."""
    return {str(status): {"$ref": f"{RESPONSES}{REFUSALS[status].name}"} for status in statuses}


class Components:
    """Named schemas from several sources; where two share a name and differ, the later becomes `Item_2`."""

    def __init__(self) -> None:
        self.schemas: dict[str, Mapping[str, object]] = {}
        self._meanings: dict[str, str] = {}

    def adopt(self, schemas: Mapping[str, Mapping[str, object]], prefix: str = SCHEMAS) -> dict[str, str]:
        """Take over schemas that may refer to each other as `<prefix><name>`; return the new form of each reference."""
        names = {name: self._claim(name, _meaning(name, schemas, prefix)) for name in schemas}
        references = {f"{prefix}{name}": f"{SCHEMAS}{new}" for name, new in names.items()}
        for name, new in names.items():
            self.schemas.setdefault(new, _mapping(renamed(schemas[name], references)))
        return references

    def hoist(self, schema: Mapping[str, object]) -> dict[str, object]:
        """Return `schema` with its `$defs` moved in here."""
        references = self.adopt(_definitions(schema), DEFINITIONS)
        return dict(_mapping(renamed({key: value for key, value in schema.items() if key != "$defs"}, references)))

    def _claim(self, name: str, meaning: str) -> str:
        base = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        candidate, number = base, 1
        while self._meanings.setdefault(candidate, meaning) != meaning:
            number += 1
            candidate = f"{base}_{number}"
        return candidate


def _definitions(schema: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    return {name: _mapping(definition) for name, definition in _mapping(schema.get("$defs", {})).items()}


def _meaning(name: str, schemas: Mapping[str, Mapping[str, object]], prefix: str) -> str:
    """Return a text that two schemas share only if all they refer to is equal as well."""
    reached, waiting = {name}, [name]
    while waiting:
        for text in _strings(schemas[waiting.pop()]):
            target = text.removeprefix(prefix)
            if text.startswith(prefix) and target in schemas and target not in reached:
                reached.add(target)
                waiting.append(target)
    references = {f"{prefix}{each}": f"{SCHEMAS}{each}" for each in reached}
    return json.dumps({each: renamed(schemas[each], references) for each in reached}, sort_keys=True, default=repr)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _strings(member)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def renamed(value: object, references: Mapping[str, str]) -> object:
    """Replace references wherever they stand: under `$ref`, or as plain strings in a discriminator's `mapping`."""
    if isinstance(value, str):
        return references.get(value, value)
    if isinstance(value, Mapping):
        return {key: renamed(member, references) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [renamed(item, references) for item in value]
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"a JSON object was expected, not {type(value).__name__}")
    return value


def openapi_document(
    *, title: str, description: str, version: str, endpoints: Sequence[Endpoint], has_keys: bool
) -> dict[str, object]:
    """Return the document for `endpoints`, in their order; those without an operation are left out.

    Every operation gets the refusals that the layers around it can answer. Where there are keys, endpoints that need
    none say so.
    """
    components = Components()
    components.adopt(PROBLEM_SCHEMAS)
    paths: dict[str, dict[str, object]] = {}
    taken: set[str] = set()
    for endpoint in endpoints:
        method = endpoint.method.lower()
        operation = endpoint.described()
        if operation is not None and method in METHODS:
            rendered = _operation(endpoint, operation, components, has_keys)
            rendered["operationId"] = _unique(operation.operation_id, taken)
            paths.setdefault(TEMPLATE.sub(r"{\1}", endpoint.path), {})[method] = rendered
    document: dict[str, object] = {
        "openapi": VERSION,
        "info": {"title": title, **({"description": description} if description else {}), "version": version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": _components(components, paths, has_keys),
    }
    if has_keys:
        document["security"] = [{BEARER: []}]
    return document


def _operation(endpoint: Endpoint, operation: Operation, components: Components, has_keys: bool) -> dict[str, object]:
    references = components.adopt(operation.components)
    optional: dict[str, object] = {
        "description": operation.description,
        "tags": list(operation.tags),
        "parameters": [*_path_parameters(endpoint.path, operation), *operation.parameters],
        "requestBody": operation.request_body,
    }
    rendered: dict[str, object] = {"operationId": operation.operation_id, "summary": operation.summary}
    rendered |= {key: renamed(value, references) for key, value in optional.items() if value}
    rendered["responses"] = _responses(endpoint, operation, references, has_keys)
    if has_keys and not endpoint.auth_required:
        rendered["security"] = []
    return rendered


def _path_parameters(path: str, operation: Operation) -> list[Mapping[str, object]]:
    described = {parameter.get("name") for parameter in operation.parameters if parameter.get("in") == "path"}
    return [
        {"name": name, "in": "path", "required": True, "schema": CONVERTERS.get(converter, {"type": "string"})}
        for name, converter in TEMPLATE.findall(path)
        if name not in described
    ]


def _responses(
    endpoint: Endpoint, operation: Operation, references: Mapping[str, str], has_keys: bool
) -> dict[str, object]:
    around = {400, 413, 431, 500, 503}
    if has_keys and endpoint.auth_required:
        around.add(401)
    if endpoint.method.lower() in BODY_METHODS:
        around.add(408)
    if operation.operation_id not in UNTHROTTLED:
        around.add(429)
    responses: dict[str, object] = dict(refusals(*around))
    own = {status: _mapping(renamed(response, references)) for status, response in operation.responses.items()}
    responses |= {status: _with_request_id(response) for status, response in own.items()}
    return dict(sorted(responses.items()))


def _with_request_id(response: Mapping[str, object]) -> Mapping[str, object]:
    if "$ref" in response:
        return response
    return {**response, "headers": {**header("x-request-id"), **_mapping(response.get("headers", {}))}}


def header(name: str) -> dict[str, object]:
    """Return the `headers` member for one of HEADERS."""
    return {name: {"$ref": f"#/components/headers/{name}"}}


def _unique(operation_id: str, taken: set[str]) -> str:
    candidate, number = operation_id, 1
    while candidate in taken:
        number += 1
        candidate = f"{operation_id}_{number}"
    taken.add(candidate)
    return candidate


def _components(components: Components, paths: Mapping[str, object], has_keys: bool) -> dict[str, object]:
    used = {text.removeprefix(RESPONSES) for text in _strings(paths) if text.startswith(RESPONSES)}
    rendered: dict[str, object] = {
        "schemas": dict(sorted(components.schemas.items())),
        "responses": {refusal.name: _refusal(refusal) for refusal in REFUSALS.values() if refusal.name in used},
        "headers": dict(HEADERS),
    }
    if has_keys:
        rendered["securitySchemes"] = {BEARER: {"type": "http", "scheme": "bearer"}}
    return rendered


def _refusal(refusal: Refusal) -> dict[str, object]:
    names = ["x-request-id", *([refusal.header] if refusal.header else [])]
    return {
        "description": refusal.description,
        "headers": {name: header(name)[name] for name in names},
        "content": {"application/problem+json": {"schema": {"$ref": f"{SCHEMAS}{refusal.schema}"}}},
    }


class OpenAPIEndpoint:
    """Answers with the document, its server being where the deployment is mounted.

    `document` is called by the first request: making it takes longer than all else that a deployment is built of.
    """

    def __init__(self, document: Callable[[], Mapping[str, object]]) -> None:
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        before, after = self._around_server
        await respond(send, 200, JSON, before + to_json(public_path(scope)) + after)

    @cached_property
    def _around_server(self) -> tuple[bytes, bytes]:
        """The document, serialised once, before and after the server's address: that is written anew."""
        document = self._document()
        first = {key: document[key] for key in ("openapi", "info")}
        rest = {key: value for key, value in document.items() if key not in (*first, "servers")}
        before = to_json(first, inf_nan_mode="null")[:-1] + b',"servers":[{"url":'
        return before, b"}]," + to_json(rest, inf_nan_mode="null")[1:]
