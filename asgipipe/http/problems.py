"""Refusals as RFC 9457 problem documents."""

from pydantic_core import to_json

from asgipipe.errors import HTTPError
from asgipipe.http.responses import respond
from asgipipe.http.types import Send

PROBLEM = (b"content-type", b"application/problem+json")


def problem(error: HTTPError) -> dict[str, object]:
    """Return the members of the problem document for `error`."""
    document: dict[str, object] = {
        "type": f"urn:asgipipe:{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.errors is not None:
        document["errors"] = list(error.errors)
    return {**document, **error.extra}


async def send_problem(send: Send, error: HTTPError) -> None:
    """Answer with the problem document of `error` and the headers it carries."""
    await respond(send, error.status, PROBLEM, to_json(problem(error)), error.headers)
