"""The jobs of a deployment: GET /jobs, GET /jobs/{job_id}, POST /jobs/{job_id}/cancel."""

import re

from pydantic_core import to_json

from asgipipe.errors import HTTPError, NotFoundError
from asgipipe.http.query import Query
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.jobs.jobs import BaseJobs
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.service.deployment import BaseDeploymentService

PAGE = 50
LARGEST_PAGE = 500
LONGEST_CURSOR = 200
LONGEST_REASON = 500

CLIENT = "client"
"""Who has cancelled a job that was cancelled over HTTP."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE).fullmatch


class JobsEndpoint:
    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope)
        state = query.choice("status", JobState)
        limit = query.integer("limit", 1, LARGEST_PAGE) or PAGE
        page = await self._service.jobs.list(state=state, limit=limit, cursor=query.text("cursor", LONGEST_CURSOR))
        body = b'{"jobs":[%b],"total":%d,"next_cursor":%b}' % (
            b",".join([job.as_json() for job in page.jobs]),
            page.total,
            to_json(page.next_cursor),
        )
        await respond(send, 200, JSON, body)


class JobEndpoint:
    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job = await known_job(self._service.jobs, job_id_in(scope))
        await respond(send, 200, JSON, job.as_json())


class CancelEndpoint:
    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job_id = job_id_in(scope)
        reason = Query(scope).text("reason", LONGEST_REASON)
        if reason:
            reason = reason.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL in a text
        try:
            job = await self._service.jobs.cancel(job_id, reason=reason or None, by=CLIENT)
        except HTTPError as error:
            raise _about(job_id, error) from None
        await respond(send, 202, JSON, b'{"job_id":"%b","status":"%b"}' % (job.id.encode(), job.state.value.encode()))


async def known_job(jobs: BaseJobs, job_id: str) -> Job:
    """Return a job. Raises NotFoundError."""
    job = await jobs.get(job_id)
    if job is None:
        raise no_such_job(job_id)
    return job


def job_id_in(scope: Scope) -> str:
    """Return the id in the path. Raises NotFoundError for what cannot be one."""
    return as_job_id(scope["path_params"]["job_id"])


def as_job_id(text: str) -> str:
    """Return an id as it is kept. Raises NotFoundError for what cannot be one."""
    if _UUID(text) is None:
        raise NotFoundError("There is no job of this id.")
    return text.lower()


def no_such_job(job_id: str) -> HTTPError:
    return _about(job_id, NotFoundError("There is no job of this id."))


def _about(job_id: str, error: HTTPError) -> HTTPError:
    error.extra = {**error.extra, "job_id": job_id}
    return error
