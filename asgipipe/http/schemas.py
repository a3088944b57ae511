"""The JSON schemas of what is answered, as the OpenAPI document shows them; references are to `DEFINITIONS`."""

from collections.abc import Mapping

from asgipipe.http.openapi import DEFINITIONS, SCHEMAS
from asgipipe.jobs.records import PIPELINE_STARTED, RETRYING, TERMINAL_EVENTS
from asgipipe.jobs.states import JobState

Schema = Mapping[str, object]

STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0, "description": "Seconds."}
NULLABLE_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0, "description": "Seconds."}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339."}
NULLABLE_TIME: Schema = {"type": ["string", "null"], "format": "date-time", "description": "RFC 3339."}


def record(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the schema of an object that has all of `properties` but the optional ones, and may get more later."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def json_response(description: str, schema: Schema) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problem_content() -> dict[str, object]:
    """Return the `content` member of a refusal."""
    return {"application/problem+json": {"schema": {"$ref": f"{SCHEMAS}Problem"}}}


# Runs

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


def envelope(success: bool, outputs: Schema, error: Schema, description: str) -> dict[str, object]:
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


# Jobs

_STATES: Schema = {"type": "string", "enum": [state.value for state in JobState]}
_LINK: Schema = {**NULLABLE_STRING, "description": "A path on this server; null when the endpoint is switched off."}

ACCEPTED = record(
    {
        "job_id": STRING,
        "run_id": STRING,
        "status": {"const": JobState.PENDING.value},
        "status_url": _LINK,
        "stream_url": _LINK,
    }
)

CANCELED = record({"job_id": STRING, "status": _STATES})

_PROGRESS: Schema = {
    **record(
        {
            "fraction": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "message": NULLABLE_STRING,
            "step_name": NULLABLE_STRING,
        }
    ),
    "type": ["object", "null"],
}

JOB = record(
    {
        "job_id": STRING,
        "run_id": {**STRING, "description": "The same as job_id."},
        "run_name": STRING,
        "pipeline_name": STRING,
        "status": _STATES,
        "parameters": {"type": "object"},
        "created_at": TIME,
        "started_at": NULLABLE_TIME,
        "completed_at": NULLABLE_TIME,
        "execution_time": NULLABLE_SECONDS,
        "attempt": {**COUNT, "description": "How often it was begun."},
        "progress": _PROGRESS,
        "result": {
            "anyOf": [
                {"$ref": f"{DEFINITIONS}Envelope"},
                {"$ref": f"{DEFINITIONS}FailedEnvelope"},
                {"type": "null"},
            ]
        },
        "error": NULLABLE_STRING,
        "error_code": {
            **NULLABLE_STRING,
            "description": "`failed`, `timeout` past its deadline, `interrupted` when it lost its worker for good, "
            "`invalid_parameters` when the pipeline does not take them any more, `canceled`.",
        },
        "canceled_by": NULLABLE_STRING,
        "cancel_reason": NULLABLE_STRING,
    }
)

JOBS = record(
    {
        "jobs": {"type": "array", "items": {"$ref": f"{DEFINITIONS}Job"}},
        "total": {**COUNT, "description": "How many there are in all."},
        "next_cursor": {**NULLABLE_STRING, "description": "The `cursor` of the next page; null on the last one."},
    }
)

EVENT_TYPE: Schema = {
    "type": "string",
    "enum": [
        PIPELINE_STARTED,
        *("step_started", "step_completed", "step_failed", "progress", "log", "output_delta"),
        RETRYING,
        *TERMINAL_EVENTS.values(),
    ],
}

EVENT = record(
    {
        "id": {"type": "integer", "minimum": 0, "description": "1, 2, 3 ... for each job, without gaps."},
        "event_type": {"$ref": f"{DEFINITIONS}EventType"},
        "job_id": STRING,
        "run_id": STRING,
        "timestamp": TIME,
        "step_name": NULLABLE_STRING,
        "data": {"type": "object", "description": "Of the last event, the envelope."},
    }
)

_FRAME = {
    **record(
        {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "event": {"$ref": f"{DEFINITIONS}EventType"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": f"{DEFINITIONS}Event"},
            },
        }
    ),
    "description": "One event of the stream; its data is all of it, as JSON.",
}

# As OpenAPI 3.2 has it in `itemSchema`; of a media type that is a sequence, 3.1 can only describe what it consists of.
EVENT_STREAM: Schema = {"text/event-stream": {"schema": _FRAME}}
