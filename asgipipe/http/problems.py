"""Refusals as RFC 9457 problem documents."""

from pydantic_core import to_json

from asgipipe.errors import HTTPError
from asgipipe.http.responses import respond, without_body
from asgipipe.http.types import Scope, Send

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


async def refuse(scope: Scope, send: Send, error: HTTPError) -> None:
    """Answer a request, or a WebSocket handshake, with a problem.

    A handshake is refused with the problem itself where the server has the `websocket.http.response` extension;
    elsewhere it is closed before it was accepted, which servers answer with 403.
    """
    if scope["type"] == "http":
        await send_problem(without_body(send) if scope["method"] == "HEAD" else send, error)
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        body = to_json(problem(error))
        headers = [PROBLEM, (b"content-length", b"%d" % len(body)), *error.headers]
        await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008})
