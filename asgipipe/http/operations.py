"""What the OpenAPI document says about the built-in endpoints."""

from collections.abc import Mapping
from typing import cast

from asgipipe.http.endpoint import Operation
from asgipipe.http.idempotency import LONGEST
from asgipipe.http.modes import LONGEST_DELAY, MOST_ATTEMPTS, PRIORITY, RESPOND_ASYNC, Mode
from asgipipe.http.openapi import DEFINITIONS, PROBLEM_SCHEMAS, Components, header, refusals, renamed
from asgipipe.http.schemas import (
    ACCEPTED,
    COUNT,
    EVENT,
    EVENT_STREAM,
    EVENT_TYPE,
    JOB,
    METADATA,
    NULLABLE_SECONDS,
    NULLABLE_STRING,
    NULLABLE_TIME,
    SECONDS,
    STRING,
    Schema,
    envelope,
    json_response,
    problem_content,
    record,
)
from asgipipe.settings.override import override_schema

RUNS = ("Runs",)
SERVICE = ("Service",)


def _request(required: bool, capture: bool) -> dict[str, object]:
    parameters: Schema = {"$ref": f"{DEFINITIONS}Parameters"}
    return {
        "type": "object",
        "properties": {
            "parameters": parameters if required else {"anyOf": [parameters, {"type": "null"}]},
            "run_name": {
                **NULLABLE_STRING,
                "minLength": 1,
                "maxLength": 255,
                "description": "By default the pipeline's name and the time.",
            },
            "capture_override": override_schema(allowed=capture),
            "timeout": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "Seconds the run may take; no longer than the deployment allows.",
            },
        },
        "required": ["parameters"] if required else [],
        "additionalProperties": False,
    }


class PipelineSchemas:
    """The schemas of what one pipeline takes and gives.

    `required` says whether it has parameters without a default, `capture` whether `capture_override` is allowed.
    """

    def __init__(self, input_schema: Schema, output_schema: Schema, *, required: bool, capture: bool = True) -> None:
        components = Components()
        components.adopt(PROBLEM_SCHEMAS)
        parameters, outputs = components.hoist(input_schema), components.hoist(output_schema)
        self._references = components.adopt(_run_schemas(parameters, outputs, _request(required, capture)), DEFINITIONS)
        self.components = components.schemas

    def placed(self, schema: Mapping[str, object]) -> dict[str, object]:
        """Return a part of the document with its references to DEFINITIONS in their place."""
        return cast("dict[str, object]", renamed(schema, self._references))

    def reference(self, name: str) -> dict[str, object]:
        return self.placed({"$ref": f"{DEFINITIONS}{name}"})


def _run_schemas(parameters: Schema, outputs: Schema, request: Schema) -> dict[str, Schema]:
    failure = "A run that was started and failed; `error` says why, unless the deployment keeps that to itself."
    return {
        "Parameters": parameters,
        "Outputs": outputs,
        "RunMetadata": METADATA,
        "InvokeRequest": request,
        "Envelope": envelope(
            True, {"$ref": f"{DEFINITIONS}Outputs"}, {"type": "null"}, "A run that finished, with its outputs by name."
        ),
        "FailedEnvelope": envelope(False, {"type": "null"}, NULLABLE_STRING, failure),
        "Accepted": ACCEPTED,
        "Job": JOB,
        "EventType": EVENT_TYPE,
        "Event": EVENT,
    }


def invoke_operation(*, summary: str, description: str, schemas: "PipelineSchemas", required: bool) -> Operation:
    """Describe POST invoke for one pipeline; `required` says whether it has parameters without a default."""
    request, finished, failed, accepted = map(
        schemas.reference, ("InvokeRequest", "Envelope", "FailedEnvelope", "Accepted")
    )
    return Operation(
        operation_id="invoke",
        summary=summary,
        description=description,
        tags=RUNS,
        parameters=_INVOKE_PARAMETERS,
        request_body={"required": required, "content": {"application/json": {"schema": request}}},
        responses={
            "200": {
                "description": "The run finished; with `mode=stream`, its events until it ends.",
                "headers": _REPLAYED,
                "content": {"application/json": {"schema": finished}, **schemas.placed(EVENT_STREAM)},
            },
            "202": {
                **json_response("The job was accepted, and will not be lost.", accepted),
                "headers": {**header("location"), **header("preference-applied"), **_REPLAYED},
            },
            **refusals(409, 415, 422, 507),
            "500": _run_failure("The pipeline raised an exception.", failed),
            "504": _run_failure("The deadline passed.", failed),
        },
        components=schemas.components,
    )


_REPLAYED = header("idempotent-replayed")


def query_parameter(name: str, description: str, schema: Schema) -> dict[str, object]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header_parameter(name: str, description: str, schema: Schema) -> dict[str, object]:
    return {"name": name, "in": "header", "description": description, "schema": schema}


_INVOKE_PARAMETERS = (
    query_parameter(
        "mode",
        "`sync` waits for the end of the run, `async` accepts it as a job, `stream` sends its events as they happen. It"
        " wins over `Accept: text/event-stream`, and that over `Prefer: respond-async`.",
        {"type": "string", "enum": [mode.value for mode in Mode], "default": Mode.SYNC.value},
    ),
    query_parameter(
        "priority",
        "Jobs of a higher priority are run first. Only with `mode=async`, as the two after it.",
        {"type": "integer", "minimum": -PRIORITY, "maximum": PRIORITY, "default": 0},
    ),
    query_parameter(
        "delay",
        "Seconds before the job is run.",
        {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY, "default": 0},
    ),
    query_parameter(
        "max_attempts",
        "How often the job is begun before it is given up because its worker was lost each time.",
        {"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS},
    ),
    header_parameter(
        "Idempotency-Key",
        "The same key with the same body gives the first answer again, for as long as the deployment remembers it.",
        {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[!-~]+$"},
    ),
    header_parameter("Prefer", f"`{RESPOND_ASYNC}` is the same as `mode=async` (RFC 7240).", STRING),
)


def _run_failure(description: str, failed: Schema) -> dict[str, object]:
    """A run that failed answers with the envelope; what went wrong around it, before it began, with a problem."""
    content = {"application/json": {"schema": failed}, **problem_content()}
    return {"description": description, "headers": _REPLAYED, "content": content}


def health_operation() -> Operation:
    schema = record(
        {"status": {"const": "healthy"}, "uptime": SECONDS, "deployment_id": STRING, "pipeline_name": STRING}
    )
    return _reading("health", "Whether the deployment is well", schema, "It is well.")


def ready_operation() -> Operation:
    schema = record({"status": {"const": "ready"}})
    return _reading("ready", "Whether the deployment takes requests", schema, "It does.")


def info_operation() -> Operation:
    pipeline = {
        "name": STRING,
        "description": NULLABLE_STRING,
        "steps": {"type": "array"},
        "graph": {"type": "object"},
        "parameters": {},
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
    }
    schema = record(
        {
            "deployment": record({"id": STRING, "name": STRING, "auth_enabled": {"type": "boolean"}}),
            "snapshot": record({"id": NULLABLE_STRING, "name": NULLABLE_STRING}),
            "pipeline": record(pipeline),
            "app": record({"app_runner_flavor": STRING}),
            "total_executions": COUNT,
            "last_execution_time": NULLABLE_TIME,
            "status": STRING,
            "uptime": SECONDS,
        }
    )
    return _reading("info", "What is served, with the pipeline's schemas", schema, "The deployment and its pipeline.")


def metrics_operation() -> Operation:
    schema = record(
        {
            "total_executions": COUNT,
            "successful_executions": COUNT,
            "failed_executions": COUNT,
            "canceled_executions": COUNT,
            "in_flight": COUNT,
            "average_execution_time": NULLABLE_SECONDS,
            "execution_time_quantiles": record(dict.fromkeys(("0.5", "0.95", "0.99"), NULLABLE_SECONDS)),
            "last_execution_time": NULLABLE_TIME,
        },
    )
    content = {
        "application/json": {"schema": schema},
        "text/plain": {"schema": STRING},
        "application/openmetrics-text": {"schema": STRING},
    }
    return Operation(
        operation_id="metrics",
        summary="Counts and times of the runs, of all workers together",
        description="`Accept` chooses between JSON, the default, and the formats of Prometheus and OpenMetrics.",
        tags=SERVICE,
        responses={"200": {"description": "The metrics.", "content": content}},
    )


def status_operation() -> Operation:
    return _reading("status", "The configuration in force, without secrets", {"type": "object"}, "The settings.")


def openapi_operation() -> Operation:
    return _reading("openapi", "This document", {"type": "object"}, "An OpenAPI 3.1 document.")


def index_operations() -> dict[str, Operation]:
    """Return what the index over several deployments answers, by name."""
    entry = record(
        {
            "name": STRING,
            "deployment_id": STRING,
            "url": STRING,
            "invoke_url": NULLABLE_STRING,
            "docs_url": NULLABLE_STRING,
            "auth_enabled": {"type": "boolean"},
            "description": STRING,
        }
    )
    pipelines = record({"pipelines": {"type": "array", "items": entry}})
    return {
        "pipelines": _reading("pipelines", "Which pipelines are served where", pipelines, "What is served here."),
        "health": _reading(
            "health", "Whether all pipelines are well", record({"status": {"const": "healthy"}}), "They are."
        ),
        "ready": _reading(
            "ready", "Whether all pipelines take requests", record({"status": {"const": "ready"}}), "They do."
        ),
        "openapi.json": openapi_operation(),
    }


def _reading(operation_id: str, summary: str, schema: Schema, answer: str) -> Operation:
    return Operation(
        operation_id=operation_id, summary=summary, tags=SERVICE, responses={"200": json_response(answer, schema)}
    )
