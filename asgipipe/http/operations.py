"""What the OpenAPI document says about the built-in endpoints."""

from collections.abc import Mapping

from asgipipe.http.endpoint import Operation
from asgipipe.http.openapi import DEFINITIONS, PROBLEM_SCHEMAS, SCHEMAS, Components, refusals

Schema = Mapping[str, object]

STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0, "description": "Seconds."}
NULLABLE_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0, "description": "Seconds."}
NULLABLE_TIME: Schema = {"type": ["string", "null"], "format": "date-time", "description": "RFC 3339."}

RUNS = ("Runs",)
SERVICE = ("Service",)


def record(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the schema of an object that has all of `properties` but the optional ones, and may get more later."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def json_response(description: str, schema: Schema) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


METADATA = record(
    {
        "deployment_id": STRING,
        "deployment_name": STRING,
        "snapshot_id": NULLABLE_STRING,
        "snapshot_name": NULLABLE_STRING,
        "pipeline_name": STRING,
        "run_id": STRING,
        "run_name": STRING,
        "parameters_used": {"type": "object", "description": "Every parameter of the run, defaults included."},
    }
)


def _envelope(success: bool, outputs: Schema, error: Schema, description: str) -> dict[str, object]:
    schema = record(
        {
            "success": {"const": success},
            "outputs": outputs,
            "execution_time": SECONDS,
            "metadata": {"$ref": f"{DEFINITIONS}RunMetadata"},
            "error": error,
        }
    )
    return {**schema, "description": description}


def _request(required: bool) -> dict[str, object]:
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
            "capture_override": {"type": "null"},
            "timeout": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "Seconds the run may take; no longer than the deployment allows.",
            },
        },
        "required": ["parameters"] if required else [],
        "additionalProperties": False,
    }


def _run_schemas(parameters: Schema, outputs: Schema, required: bool) -> dict[str, Schema]:
    failure = "A run that was started and failed; `error` says why, unless the deployment keeps that to itself."
    return {
        "Parameters": parameters,
        "Outputs": outputs,
        "RunMetadata": METADATA,
        "InvokeRequest": _request(required),
        "Envelope": _envelope(
            True, {"$ref": f"{DEFINITIONS}Outputs"}, {"type": "null"}, "A run that finished, with its outputs by name."
        ),
        "FailedEnvelope": _envelope(False, {"type": "null"}, NULLABLE_STRING, failure),
    }


def invoke_operation(
    *, summary: str, description: str, input_schema: Schema, output_schema: Schema, required: bool
) -> Operation:
    """Describe POST invoke for one pipeline; `required` says whether it has parameters without a default."""
    components = Components()
    components.adopt(PROBLEM_SCHEMAS)
    parameters, outputs = components.hoist(input_schema), components.hoist(output_schema)
    references = components.adopt(_run_schemas(parameters, outputs, required), DEFINITIONS)
    names = ("InvokeRequest", "Envelope", "FailedEnvelope")
    request, envelope, failed = ({"$ref": references[f"{DEFINITIONS}{name}"]} for name in names)
    return Operation(
        operation_id="invoke",
        summary=summary,
        description=description,
        tags=RUNS,
        parameters=(MODE,),
        request_body={"required": required, "content": {"application/json": {"schema": request}}},
        responses={
            "200": json_response("The run finished.", envelope),
            **refusals(415, 422),
            "500": _run_failure("The pipeline raised an exception.", failed),
            "504": _run_failure("The deadline passed.", failed),
        },
        components=components.schemas,
    )


MODE: Mapping[str, object] = {
    "name": "mode",
    "in": "query",
    "description": "`sync` waits for the end of the run.",
    "schema": {"type": "string", "enum": ["sync"], "default": "sync"},
}


def _run_failure(description: str, envelope: Schema) -> dict[str, object]:
    """A run that failed answers with the envelope; what went wrong around it, before it began, with a problem."""
    problem = {"application/problem+json": {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    return {"description": description, "content": {"application/json": {"schema": envelope}, **problem}}


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
        optional=("canceled_executions",),
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
