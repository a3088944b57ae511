"""What the OpenAPI document says about jobs and their events."""

from asgipipe.http.endpoint import Operation
from asgipipe.http.endpoints.jobs import LARGEST_PAGE, LONGEST_REASON, PAGE
from asgipipe.http.openapi import refusals
from asgipipe.http.operations import PipelineSchemas, header_parameter, query_parameter
from asgipipe.http.schemas import CANCELED, EVENT_STREAM, JOBS, STRING, json_response
from asgipipe.jobs.states import JobState

TAGS = ("Jobs",)

CURSOR = "^[A-Za-z0-9_-]{8}[c-f][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$"
"""What a cursor looks like: a UUID of version 7 in base64url."""


def jobs_operation(schemas: PipelineSchemas) -> Operation:
    states = [state.value for state in JobState]
    return Operation(
        operation_id="jobs",
        summary="The jobs, newest first",
        tags=TAGS,
        parameters=(
            query_parameter("status", "Only jobs in this state.", {"type": "string", "enum": states}),
            query_parameter(
                "limit",
                "How many at most.",
                {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
            ),
            query_parameter("cursor", "The `next_cursor` of the page before.", {"type": "string", "pattern": CURSOR}),
        ),
        responses={"200": json_response("A page of jobs.", schemas.placed(JOBS))},
        components=schemas.components,
    )


def job_operation(schemas: PipelineSchemas) -> Operation:
    return Operation(
        operation_id="job",
        summary="A job, with its result when it has ended",
        tags=TAGS,
        responses={"200": json_response("The job.", schemas.reference("Job")), **refusals(404)},
        components=schemas.components,
    )


def cancel_operation() -> Operation:
    return Operation(
        operation_id="cancel_job",
        summary="Cancel a job",
        description="One that waits is canceled at once; one that runs ends at its next await or step.",
        tags=TAGS,
        parameters=(query_parameter("reason", "Kept with the job.", {"type": "string", "maxLength": LONGEST_REASON}),),
        responses={"202": json_response("It is canceled, or asked to end.", CANCELED), **refusals(404, 409, 507)},
    )


def stream_operation(schemas: PipelineSchemas) -> Operation:
    return Operation(
        operation_id="stream",
        summary="The events of a job: those that were, then those that come, until it ends",
        tags=TAGS,
        parameters=(
            header_parameter(
                "Last-Event-ID", "Begins after this event; an EventSource sends it when it comes back.", STRING
            ),
        ),
        responses={
            "200": {"description": "The events.", "content": schemas.placed(EVENT_STREAM)},
            "204": {"description": "There are no more events, and there will be none."},
            **refusals(404),
        },
        components=schemas.components,
    )
