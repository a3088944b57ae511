"""The places at which a list of jobs is read on."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from asgipipe.errors import BadRequestError

_LENGTH = 22


def cursor_after(job_id: str) -> str:
    return urlsafe_b64encode(UUID(job_id).bytes).rstrip(b"=").decode()


def job_before(cursor: str) -> str:
    """Return the job that a cursor comes after. Raises BadRequestError for one that is none of ours."""
    try:
        job = UUID(bytes=urlsafe_b64decode(f"{cursor}==")) if len(cursor) == _LENGTH else None
    except ValueError:
        job = None
    if job is None or job.version != 7 or cursor_after(str(job)) != cursor:
        raise BadRequestError("cursor: send the next_cursor of a page before, as it was.")
    return str(job)
