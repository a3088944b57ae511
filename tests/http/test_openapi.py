import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field

from asgipipe.errors import BodyTooLargeError, ValidationError
from asgipipe.http import job_operations, operations
from asgipipe.http.endpoint import Endpoint, Operation
from asgipipe.http.openapi import REFUSALS, Components, OpenAPIEndpoint, openapi_document
from asgipipe.http.operations import PipelineSchemas, invoke_operation
from asgipipe.http.problems import problem
from asgipipe.http.schemas import json_response
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.identifiers import uuid7
from asgipipe.jobs.cursors import cursor_after, job_before
from asgipipe.jobs.jobs import Submission
from asgipipe.jobs.records import Event
from tests.conftest import exchange
from tests.http.held import job_of

Document = dict[str, Any]

READING = [
    operations.health_operation(),
    operations.ready_operation(),
    operations.info_operation(),
    operations.metrics_operation(),
    operations.status_operation(),
    operations.openapi_operation(),
    operations.index_operations()["pipelines"],
]


class Grape(BaseModel):
    name: str
    parents: list["Grape"] = Field(default_factory=list)


class Wine(BaseModel):
    age: int
    grape: Grape


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("describing an endpoint does not call it")


def invoke(
    input_schema: Mapping[str, object] | None = None,
    output_schema: Mapping[str, object] | None = None,
    *,
    required: bool = True,
) -> Operation:
    return invoke_operation(
        summary="Score a wine",
        description="",
        schemas=PipelineSchemas(
            input_schema or {**Wine.model_json_schema(), "additionalProperties": False},
            output_schema or {"type": "object", "properties": {"score": {"type": "number"}}},
            required=required,
        ),
        required=required,
    )


def endpoint(path: str, operation: Operation | None, method: str = "GET", *, auth_required: bool = True) -> Endpoint:
    return Endpoint(path, method, nothing, path, auth_required=auth_required, operation=operation)


def document(*endpoints: Endpoint, has_keys: bool = False) -> Document:
    """Return the document, after the specification's own validator has read it."""
    made = openapi_document(title="Wines", description="", version="1", endpoints=endpoints, has_keys=has_keys)
    plain: Document = json.loads(json.dumps(made))
    OpenAPIV31SpecValidator(plain).validate()
    return plain


def whole(has_keys: bool = True) -> Document:
    open_ids = {"health", "ready", "openapi"}
    rows = [endpoint(f"/{op.operation_id}", op, auth_required=op.operation_id not in open_ids) for op in READING]
    return document(endpoint("/invoke", invoke(), "POST"), *rows, has_keys=has_keys)


def verdict(made: Document, schema: Mapping[str, object], value: object) -> list[str]:
    """Return what JSON Schema says against `value`, with references resolved in the document."""
    validator = Draft202012Validator({"components": made["components"], **schema})
    return [error.message for error in validator.iter_errors(value)]


def request_schema(made: Document) -> Mapping[str, object]:
    schema: Mapping[str, object] = made["paths"]["/invoke"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return schema


def response_schema(made: Document, status: str, media_type: str = "application/json") -> Mapping[str, object]:
    schema: Mapping[str, object] = made["paths"]["/invoke"]["post"]["responses"][status]["content"][media_type][
        "schema"
    ]
    return schema


@pytest.mark.parametrize("has_keys", [True, False])
def test_the_document_of_every_built_in_endpoint_is_valid(has_keys: bool) -> None:
    """The validator accepts the whole document, and all endpoints stand in it in the order given."""
    made = whole(has_keys)
    assert made["openapi"].startswith("3.1.")
    assert list(made["paths"]) == ["/invoke", *(f"/{op.operation_id}" for op in READING)]


def test_the_document_is_deterministic() -> None:
    """Two builds give the same bytes, so that every worker and every runner publishes the same document."""
    assert json.dumps(whole()) == json.dumps(whole())


def test_keys_are_documented_only_where_they_exist() -> None:
    """With keys: the scheme, a 401 on what needs one, an explicit exemption elsewhere. Without: none of it."""
    made = whole()
    assert made["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert made["security"] == [{"bearer": []}]
    assert made["paths"]["/health"]["get"]["security"] == []
    assert "security" not in made["paths"]["/invoke"]["post"]
    assert "401" in made["paths"]["/info"]["get"]["responses"]
    assert "401" not in made["paths"]["/health"]["get"]["responses"]
    assert "www-authenticate" in made["components"]["responses"]["Unauthorized"]["headers"]
    keyless = json.dumps(whole(has_keys=False))
    assert "security" not in keyless
    assert '"401"' not in keyless


def test_every_status_of_invoke_is_documented() -> None:
    """What the contract's table lists, and what the layers around can answer."""
    refused = {"400", "401", "408", "409", "413", "415", "422", "429", "431", "500", "503", "504", "507"}
    statuses = {"200", "202", *refused}
    made = whole()
    assert set(made["paths"]["/invoke"]["post"]["responses"]) == statuses
    assert "retry-after" in made["components"]["responses"]["TooManyRequests"]["headers"]
    assert "retry-after" in made["components"]["responses"]["Unavailable"]["headers"]


def test_reading_is_never_throttled() -> None:
    """Only what works, invoke and custom endpoints, documents a 429."""
    operation = Operation("x", "X", responses={"200": {"description": "Done."}})
    made = whole()
    made["paths"] |= document(endpoint("/custom", operation))["paths"]
    throttled = [path for path, item in made["paths"].items() for op in item.values() if "429" in op["responses"]]
    assert throttled == ["/invoke", "/custom"]


def test_every_answer_names_the_request_id() -> None:
    """Own and shared answers document the x-request-id header."""
    made = whole()
    for item in made["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                shared = response.get("$ref", "").rpartition("/")[2]
                assert "x-request-id" in (made["components"]["responses"][shared] if shared else response)["headers"]


def test_metrics_document_their_three_formats() -> None:
    """JSON, Prometheus text and OpenMetrics text."""
    content = whole()["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/json", "text/plain", "application/openmetrics-text"]


WINE = {"age": 3, "grape": {"name": "a", "parents": [{"name": "b", "parents": []}]}}


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"parameters": WINE}, True),
        ({"parameters": WINE, "run_name": None, "timeout": None, "capture_override": None}, True),
        ({"parameters": WINE, "run_name": "first", "timeout": 0.5}, True),
        ({"parameters": {"age": "3", "grape": {"name": "a"}}}, False),
        ({"parameters": {**WINE, "colour": "red"}}, False),
        ({"parameters": {"age": 3, "grape": {"name": "a", "parents": [{}]}}}, False),
        ({"parameters": WINE, "timeout": 0}, False),
        ({"parameters": WINE, "timeout": -1}, False),
        ({"parameters": WINE, "run_name": 7}, False),
        ({"parameters": WINE, "capture_override": {"mode": "full"}}, True),
        ({"parameters": WINE, "capture_override": {"mode": "fuller"}}, False),
        ({"parameters": WINE, "unknown": 1}, False),
        ({"parameters": None}, False),
        ({}, False),
        ([], False),
    ],
)
def test_the_request_schema_accepts_what_the_contract_accepts(body: object, accepted: bool) -> None:
    """Members, their types, nested models and unknown names, for a pipeline with required parameters."""
    made = whole()
    assert made["paths"]["/invoke"]["post"]["requestBody"]["required"] is True
    assert (verdict(made, request_schema(made), body) == []) is accepted


@pytest.mark.parametrize(
    ("body", "accepted"), [({}, True), ({"parameters": None}, True), ({"parameters": {}}, True), (None, False)]
)
def test_parameters_may_be_left_out_when_all_have_defaults(body: object, accepted: bool) -> None:
    """Then neither the body nor its parameters are required, and null stands for none."""
    schema = {"type": "object", "properties": {"age": {"type": "integer", "default": 3}}, "additionalProperties": False}
    made = document(endpoint("/invoke", invoke(schema, required=False), "POST"))
    assert made["paths"]["/invoke"]["post"]["requestBody"]["required"] is False
    assert (verdict(made, request_schema(made), body) == []) is accepted


METADATA = {
    "deployment_id": "1",
    "deployment_name": "d",
    "snapshot_id": "2",
    "snapshot_name": None,
    "pipeline_name": "p",
    "run_id": "3",
    "run_name": "p-1",
    "parameters_used": {"age": 3},
}


def envelope(**members: object) -> dict[str, object]:
    finished = {"success": True, "outputs": {"score": 0.5}, "execution_time": 0.1, "metadata": METADATA, "error": None}
    return {**finished, **members}


@pytest.mark.parametrize(
    ("status", "answer", "accepted"),
    [
        ("200", envelope(), True),
        ("200", envelope(outputs={"score": "high"}), False),
        ("200", envelope(success=False), False),
        ("200", {}, False),
        ("200", envelope(metadata={**METADATA, "run_id": None}), False),
        ("500", envelope(success=False, outputs=None, error="no grapes"), True),
        ("500", envelope(success=False, outputs=None), True),
        ("500", envelope(), False),
        ("504", envelope(success=False, outputs=None, error="too slow"), True),
    ],
)
def test_the_envelope_is_the_contracts(status: str, answer: object, accepted: bool) -> None:
    """A finished run carries the pipeline's outputs by their schema, a failed one none."""
    made = whole()
    assert (verdict(made, response_schema(made, status), answer) == []) is accepted


def test_problems_are_what_the_application_answers() -> None:
    """The documents that our own errors turn into fit the schemas of the document."""
    made = whole()
    refused = ValidationError("No.", errors=[{"loc": ["parameters", 0], "msg": "m", "type": "t"}])
    for error, name in [(refused, "ValidationProblem"), (BodyTooLargeError(5), "Problem")]:
        assert verdict(made, {"$ref": f"#/components/schemas/{name}"}, problem(error)) == []
    assert verdict(made, {"$ref": "#/components/schemas/ValidationProblem"}, {"errors": [{}]}) != []


def test_definitions_become_components() -> None:
    """No `$defs` is left, and recursive models refer to themselves where they now are."""
    text = json.dumps(whole())
    assert "$defs" not in text
    assert '"items": {"$ref": "#/components/schemas/Grape"}' in text


def test_a_recursive_model_may_be_the_parameters_themselves() -> None:
    """Pydantic describes such a model by a bare reference into its definitions."""
    made = document(endpoint("/invoke", invoke(Grape.model_json_schema()), "POST"))
    assert verdict(made, request_schema(made), {"parameters": {"name": "a", "parents": [{"name": "b"}]}}) == []
    assert verdict(made, request_schema(made), {"parameters": {"parents": []}}) != []


def item(kind: str) -> dict[str, object]:
    """Return a schema whose `Item` refers to a `Part` of the given type."""
    part = {"type": kind}
    wrapped = {"type": "object", "properties": {"part": {"$ref": "#/$defs/Part"}}, "required": ["part"]}
    return {
        "$defs": {"Item": wrapped, "Part": part},
        "type": "object",
        "properties": {"item": {"$ref": "#/$defs/Item"}},
        "required": ["item"],
    }


def test_equal_names_with_equal_meaning_are_shared() -> None:
    """Input and output that use the same model have one component."""
    made = document(endpoint("/invoke", invoke(item("string"), item("string")), "POST"))
    assert [name for name in made["components"]["schemas"] if name.startswith(("Item", "Part"))] == ["Item", "Part"]


def test_equal_names_with_another_meaning_are_told_apart() -> None:
    """A model that differs only in what it refers to gets a name of its own, within and across operations."""
    made = document(
        endpoint("/invoke", invoke(item("string"), item("integer")), "POST"),
        endpoint("/other", _custom(item("boolean")), "POST"),
    )
    assert verdict(made, request_schema(made), {"parameters": {"item": {"part": "a"}}}) == []
    assert verdict(made, request_schema(made), {"parameters": {"item": {"part": 1}}}) != []
    assert verdict(made, response_schema(made, "200"), envelope(outputs={"item": {"part": 1}})) == []
    assert verdict(made, response_schema(made, "200"), envelope(outputs={"item": {"part": "a"}})) != []
    other = made["paths"]["/other"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert verdict(made, other, {"item": {"part": True}}) == []
    assert verdict(made, other, {"item": {"part": 1}}) != []


@pytest.mark.parametrize("name", ["Problem", "Envelope", "Parameters", "Outputs", "RunMetadata", "InvokeRequest"])
def test_models_may_be_named_like_ours(name: str) -> None:
    """A user's model with one of our names changes neither its own meaning nor ours."""
    schema = json.loads(json.dumps(item("string")).replace("Item", name))
    made = document(endpoint("/invoke", invoke(schema, schema), "POST"), endpoint("/other", _custom(schema), "POST"))
    assert verdict(made, request_schema(made), {"parameters": {"item": {"part": "a"}}}) == []
    assert verdict(made, request_schema(made), {"parameters": {"item": {"part": 1}}}) != []
    assert verdict(made, response_schema(made, "200"), envelope(outputs={"item": {"part": "a"}})) == []
    assert verdict(made, response_schema(made, "500"), envelope(success=False, outputs=None)) == []
    refused = made["components"]["responses"]["BadRequest"]["content"]["application/problem+json"]["schema"]
    assert verdict(made, refused, problem(BodyTooLargeError(1))) == []
    assert verdict(made, response_schema(made, "500", "application/problem+json"), problem(BodyTooLargeError(1))) == []


def _custom(schema: Mapping[str, object]) -> Operation:
    components = Components()
    hoisted = components.hoist(schema)
    return Operation(
        "custom", "Custom", responses={"200": json_response("Done.", hoisted)}, components=components.schemas
    )


def test_discriminators_follow_their_models() -> None:
    """The mapping of a discriminated union holds references as plain strings; they move along."""
    components = Components()
    components.adopt({"Cat": {"type": "string"}})
    hoisted = components.hoist(
        {
            "$defs": {"Cat": {"type": "object"}},
            "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat"}},
            "oneOf": [{"$ref": "#/$defs/Cat"}],
        }
    )
    assert hoisted == {
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat_2"}},
        "oneOf": [{"$ref": "#/components/schemas/Cat_2"}],
    }


def test_component_names_are_made_legal() -> None:
    """OpenAPI allows letters, digits, dot, dash and underscore only; names that become equal stay apart."""
    components = Components()
    components.hoist({"$defs": {"Box[int]": {"type": "integer"}, "Box(int)": {"type": "string"}}})
    assert components.schemas == {"Box_int_": {"type": "integer"}, "Box_int__2": {"type": "string"}}


@given(
    schemas=st.dictionaries(
        st.sampled_from("ABCD"),
        st.lists(st.sampled_from("ABCD").map(lambda name: {"$ref": f"#/$defs/{name}"}), max_size=3),
        min_size=1,
    ),
    rounds=st.integers(1, 3),
)
def test_adopting_again_changes_nothing(schemas: dict[str, list[dict[str, str]]], rounds: int) -> None:
    """Schemas that refer to each other in any way, circles included, are recognised when they come again."""
    group = {name: {"anyOf": references} for name, references in schemas.items()}
    components = Components()
    first = components.hoist({"$defs": group})
    before = dict(components.schemas)
    for _ in range(rounds):
        assert components.hoist({"$defs": group}) == first
    assert components.schemas == before


def test_path_templates_are_normalised_and_declared() -> None:
    """`{name:path}` becomes `{name}`, and each name is a required parameter of the converter's type."""
    described = {"name": "part", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 3}}
    operation = Operation("f", "Files", parameters=(described,), responses={"200": {"description": "Done."}})
    made = document(endpoint("/f/{part}/{n:int}/{rest:path}", operation))
    parameters = made["paths"]["/f/{part}/{n}/{rest}"]["get"]["parameters"]
    assert {p["name"]: p["schema"] for p in parameters} == {
        "n": {"type": "integer", "minimum": 0},
        "rest": {"type": "string"},
        "part": {"type": "string", "maxLength": 3},
    }


def test_only_described_operations_are_listed() -> None:
    """HEAD, WebSockets and rows without an operation stay out of the document."""
    operation = Operation("x", "X", responses={"200": {"description": "Done."}})
    made = document(
        endpoint("/a", operation, "HEAD"),
        endpoint("/b", operation, "WEBSOCKET"),
        endpoint("/c", None),
        endpoint("/d", operation),
    )
    assert list(made["paths"]) == ["/d"]


def test_operation_ids_are_unique() -> None:
    """Two functions of the same name do not break clients that are generated from the document."""
    operation = Operation("x", "X", responses={"200": {"description": "Done."}})
    made = document(endpoint("/a", operation), endpoint("/b", operation), endpoint("/b", operation, "POST"))
    ids = [op["operationId"] for item in made["paths"].values() for op in item.values()]
    assert ids == ["x", "x_2", "x_3"]


def test_own_responses_win_over_shared_ones() -> None:
    """An operation that documents a status in its own words keeps them."""
    operation = Operation("x", "X", responses={"503": {"description": "Closed on Sundays."}})
    made = document(endpoint("/a", operation))
    assert made["paths"]["/a"]["get"]["responses"]["503"]["description"] == "Closed on Sundays."


def test_every_refusal_can_be_named() -> None:
    """Each status of the shared refusals makes a valid response."""
    operation = Operation("x", "X", responses=operations.refusals(*REFUSALS))
    assert len(document(endpoint("/a", operation))["components"]["responses"]) == len(REFUSALS)


@pytest.mark.parametrize(
    ("root_path", "url"),
    [
        ("", "/"),
        ("/", "/"),
        ("/mounted", "/mounted"),
        ("/mounted/", "/mounted"),
        ("/a b/ü", "/a%20b/%C3%BC"),
        ("//evil.example", "/evil.example"),
        ('/"quoted"', "/%22quoted%22"),
    ],
)
def test_the_server_is_where_the_deployment_is_mounted(root_path: str, url: str) -> None:
    """The address is relative to the host, follows root_path, and can neither name another host nor break the JSON."""
    made = whole()
    app = OpenAPIEndpoint(lambda: made)

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": root_path}, receive, send)

    answer = asyncio.run(exchange(mounted))
    assert answer.header(b"content-type") == b"application/json"
    assert json.loads(answer.body) == {**made, "servers": [{"url": url}]}


def test_defaults_without_a_json_form_are_null() -> None:
    """A default of infinity must not make the document unreadable."""
    schema = {"type": "object", "properties": {"limit": {"type": "number", "default": float("inf")}}}
    made = openapi_document(
        title="T", description="D", version="1", endpoints=[endpoint("/invoke", invoke(schema), "POST")], has_keys=False
    )
    body = asyncio.run(exchange(OpenAPIEndpoint(lambda: made))).body
    assert b"Infinity" not in body
    assert json.loads(body)["info"] == {"title": "T", "description": "D", "version": "1"}


# Jobs

SCHEMAS = operations.PipelineSchemas(
    {"type": "object", "properties": {"number": {"type": "integer"}}},
    {"type": "object", "properties": {"output": {"type": "integer"}}},
    required=False,
)


def jobs_document() -> Document:
    return document(
        endpoint("/invoke", invoke(), "POST"),
        endpoint("/jobs", job_operations.jobs_operation(SCHEMAS)),
        endpoint("/jobs/{job_id}", job_operations.job_operation(SCHEMAS)),
        endpoint("/jobs/{job_id}/cancel", job_operations.cancel_operation(), "POST"),
        endpoint("/stream/{job_id}", job_operations.stream_operation(SCHEMAS)),
        has_keys=True,
    )


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/jobs", "get", {"200"}),
        ("/jobs/{job_id}", "get", {"200", "404"}),
        ("/jobs/{job_id}/cancel", "post", {"202", "404", "408", "409", "507"}),
        ("/stream/{job_id}", "get", {"200", "204", "404"}),
    ],
)
def test_every_status_of_jobs_is_documented(path: str, method: str, statuses: set[str]) -> None:
    """What the contract says of jobs and streams, and what the layers around can answer."""
    around = {"400", "401", "413", "429", "431", "500", "503"}
    assert set(jobs_document()["paths"][path][method]["responses"]) == statuses | around


def test_jobs_and_events_are_as_documented() -> None:
    """What is written of a job, a page of them, and an event is what their schemas say."""
    made = jobs_document()
    job = job_of("0192a0f0-0000-7000-8000-000000000000", Submission({"number": 1}))
    page = {"jobs": [json.loads(job.as_json())], "total": 1, "next_cursor": None}
    event = Event(job.id, 1, "pipeline_completed", None, 0.0, b'{"success":true}')
    content = {
        path: made["paths"][path]["get"]["responses"]["200"]["content"]
        for path in made["paths"]
        if "get" in made["paths"][path]
    }
    assert verdict(made, content["/jobs"]["application/json"]["schema"], page) == []
    assert verdict(made, content["/jobs/{job_id}"]["application/json"]["schema"], json.loads(job.as_json())) == []
    stream = content["/stream/{job_id}"]["text/event-stream"]["schema"]
    made_event = json.loads(event.as_json())
    sent = {"id": "1", "event": event.type, "data": event.as_json().decode()}
    assert verdict(made, stream, sent) == []
    assert verdict(made, stream["properties"]["data"]["contentSchema"], made_event) == []
    assert verdict(made, stream, {**sent, "event": "other"}) != []
    assert verdict(made, stream["properties"]["data"]["contentSchema"], {**made_event, "event_type": "other"}) != []


def test_an_accepted_run_is_documented() -> None:
    """202 has its body and its headers; a stream stands beside the envelope in 200."""
    responses = jobs_document()["paths"]["/invoke"]["post"]["responses"]
    assert set(responses["202"]["headers"]) == {
        "x-request-id",
        "location",
        "preference-applied",
        "idempotent-replayed",
    }
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "idempotent-replayed" in responses["500"]["headers"]


@given(st.from_regex(job_operations.CURSOR, fullmatch=True))
def test_cursors_look_as_documented(cursor: str) -> None:
    """Each cursor that is given out is one by the document, and whatever is one by the document is taken."""
    assert cursor_after(job_before(cursor)) == cursor
    assert re.fullmatch(job_operations.CURSOR, cursor_after(uuid7()))
