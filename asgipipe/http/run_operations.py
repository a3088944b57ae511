"""What the OpenAPI document says about recorded runs."""

from collections.abc import Mapping

from asgipipe.http.endpoint import Operation
from asgipipe.http.endpoints.runs import LARGEST_PAGE, MOST_PARTS, PAGE, PARTS, RunStatus
from asgipipe.http.openapi import refusals
from asgipipe.http.operations import RUNS, query_parameter
from asgipipe.http.schemas import COUNT, NULLABLE_SECONDS, NULLABLE_STRING, NULLABLE_TIME, STRING, TIME, json_response
from asgipipe.http.schemas import record as schema_of

Schema = Mapping[str, object]

_UUID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_OBJECT: Schema = {"type": ["object", "null"]}
_NEXT: Schema = {"type": ["integer", "null"], "description": "Where to read on; null at the end."}
_STATUS: Schema = {"type": "string", "enum": list(RunStatus)}

_SUMMARY: Mapping[str, Schema] = {
    "run_id": STRING,
    "run_name": STRING,
    "pipeline_name": STRING,
    "status": _STATUS,
    "attempt": {**COUNT, "description": "The attempt of the job that it was; 1 for a run that was waited for."},
    "started_at": TIME,
    "completed_at": NULLABLE_TIME,
    "execution_time": NULLABLE_SECONDS,
    "error": NULLABLE_STRING,
}
_STEP = schema_of(
    {
        "number": COUNT,
        "name": STRING,
        "status": {"type": "string", "enum": [*RunStatus, "restored"]},
        "attempt": COUNT,
        "started_at": TIME,
        "execution_time": NULLABLE_SECONDS,
        "error": NULLABLE_STRING,
        "outputs": {},
        "metadata": _OBJECT,
    }
)
_LOG = schema_of(
    {
        "number": COUNT,
        "timestamp": TIME,
        "level": STRING,
        "logger": STRING,
        "step_name": NULLABLE_STRING,
        "message": STRING,
    }
)
_OMITTED = schema_of({"step_number": {"type": ["integer", "null"]}, "name": STRING, "size": COUNT})
_RUN = schema_of(
    {
        **_SUMMARY,
        "parameters": _OBJECT,
        "outputs": _OBJECT,
        "metadata": _OBJECT,
        "steps": {"type": "array", "items": _STEP},
        "next_step": _NEXT,
        "logs": {"type": "array", "items": _LOG},
        "next_log": _NEXT,
        "omitted": {"type": "array", "items": _OMITTED, "description": "Payloads that are too large to be shown."},
    }
)
_PAGE = schema_of(
    {
        "runs": {"type": "array", "items": schema_of(_SUMMARY)},
        "next_cursor": {**NULLABLE_STRING, "description": "The `cursor` of the next page; null on the last one."},
    }
)


def runs_operation() -> Operation:
    limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE}
    return Operation(
        operation_id="runs",
        summary="The recorded runs, newest first",
        tags=RUNS,
        parameters=(
            query_parameter("status", "Only runs of this status.", _STATUS),
            query_parameter("pipeline", "Only runs of this pipeline.", {"type": "string", "maxLength": 255}),
            query_parameter("limit", "How many at most.", limit),
            query_parameter(
                "cursor",
                "The `next_cursor` of the page before.",
                {"type": "string", "format": "uuid", "pattern": _UUID},
            ),
        ),
        responses={"200": json_response("A page of runs.", _PAGE)},
    )


def run_operation() -> Operation:
    number = {"type": "integer", "minimum": 0, "maximum": 999_999_999, "default": 0}
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_PARTS, "default": PARTS}
    return Operation(
        operation_id="run",
        summary="A recorded run, with its steps, payloads, metadata and log records",
        tags=RUNS,
        parameters=(
            query_parameter("steps_after", "The `next_step` of the answer before.", number),
            query_parameter("logs_after", "The `next_log` of the answer before.", number),
            query_parameter("limit", "How many steps, and how many log records, at most.", limit),
        ),
        responses={"200": json_response("The run.", _RUN), **refusals(404)},
    )
