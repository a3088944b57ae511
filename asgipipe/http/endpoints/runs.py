"""The recorded runs of a deployment: GET /runs, GET /runs/{run_id}."""

from dataclasses import replace
from enum import StrEnum

from asgipipe.errors import BadRequestError, NotFoundError
from asgipipe.http.endpoints.jobs import as_job_id
from asgipipe.http.query import Query
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.service.deployment import BaseDeploymentService
from asgipipe.service.envelope import SILENT
from asgipipe.tracking.reader import RunReader
from asgipipe.tracking.records import RecordedRun

PAGE = 50
LARGEST_PAGE = 500
PARTS = 500
MOST_PARTS = 1000
LONGEST_NAME = 255
_HIGHEST = 999_999_999


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class RunsEndpoint:
    """The newest runs first, without their parts."""

    def __init__(self, service: BaseDeploymentService) -> None:
        self._reader = reader_of(service)
        self._silent = not service.settings.error_messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope)
        page = await self._reader.page(
            status=query.choice("status", RunStatus),
            pipeline=query.text("pipeline", LONGEST_NAME),
            limit=query.integer("limit", 1, LARGEST_PAGE) or PAGE,
            cursor=_cursor(query.text("cursor", LONGEST_NAME)),
        )
        if self._silent:
            page = replace(page, runs=[_silenced(run) for run in page.runs])
        await respond(send, 200, JSON, page.as_json())


class RunEndpoint:
    """One run with its steps, payloads, metadata and log records."""

    def __init__(self, service: BaseDeploymentService) -> None:
        self._reader = reader_of(service)
        self._silent = not service.settings.error_messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope)
        run = await self._reader.get(
            _run_id(scope["path_params"]["run_id"]),
            steps_after=query.integer("steps_after", 0, _HIGHEST) or 0,
            logs_after=query.integer("logs_after", 0, _HIGHEST) or 0,
            limit=query.integer("limit", 1, MOST_PARTS) or PARTS,
        )
        if run is None:
            raise NotFoundError(_UNKNOWN)
        await respond(send, 200, JSON, (_silenced(run) if self._silent else run).as_json())


_UNKNOWN = "There is no recorded run of this id."


def reader_of(service: BaseDeploymentService) -> RunReader:
    """Return the reader of what a deployment has recorded."""
    return RunReader(service.store, service.deployment.id, artifact_url=service.settings.artifact_url)


def _run_id(text: str) -> str:
    try:
        return as_job_id(text)
    except NotFoundError:
        raise NotFoundError(_UNKNOWN) from None


def _cursor(text: str | None) -> str | None:
    try:
        return None if text is None else as_job_id(text)
    except NotFoundError:
        raise BadRequestError("The query parameter cursor is the next_cursor of the page before.") from None


def _silenced(run: RecordedRun) -> RecordedRun:
    """Leave out what the pipeline's exceptions said."""
    steps = [replace(step, error=_silent(step.error)) for step in run.steps]
    return replace(run, error=_silent(run.error), steps=steps)


def _silent(error: str | None) -> str | None:
    return None if error is None else SILENT
