import asyncio
import json
from collections.abc import Iterator

import pytest

from asgipipe import errors
from asgipipe.errors import (
    BadRequestError,
    BodyTooLargeError,
    HTTPError,
    MethodNotAllowedError,
    RequestTimeoutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    ValidationError,
)
from asgipipe.http.problems import problem, refuse, send_problem
from asgipipe.http.types import Message, Scope


def sent_by(error: HTTPError, scope: Scope | None = None) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(send_problem(send, error) if scope is None else refuse(scope, send, error))
    return sent


def classes() -> Iterator[type[HTTPError]]:
    yield from (each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HTTPError))


def test_every_refusal_has_a_type_of_its_own() -> None:
    """Clients tell refusals apart by `type`, which is stable: these names are part of the contract."""
    assert {(each.status, each.slug) for each in classes()} == {
        (400, "bad-request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not-found"),
        (405, "method-not-allowed"),
        (408, "request-timeout"),
        (409, "conflict"),
        (413, "body-too-large"),
        (415, "unsupported-media-type"),
        (422, "validation"),
        (429, "too-many-requests"),
        (431, "headers-too-large"),
        (500, "internal"),
        (503, "unavailable"),
        (504, "deadline"),
        (507, "storage-full"),
    }


def test_the_document() -> None:
    """The members of RFC 9457, in this order; `errors` and further members where there are any."""
    plain = problem(BadRequestError("No."))
    assert list(plain.items()) == [
        ("type", "urn:asgipipe:bad-request"),
        ("title", "Bad Request"),
        ("status", 400),
        ("detail", "No."),
    ]
    listed = problem(ValidationError("No.", errors=[], extra={"run_id": "1"}))
    assert list(listed) == ["type", "title", "status", "detail", "errors", "run_id"]


def test_a_problem_over_http() -> None:
    """It is sent as application/problem+json with its length and the headers it carries."""
    start, body = sent_by(UnauthorizedError())
    assert start["status"] == 401
    assert start["headers"] == [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body["body"])),
        (b"www-authenticate", b"Bearer"),
    ]
    assert json.loads(body["body"])["status"] == 401


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (MethodNotAllowedError(["POST", "GET"]), (b"allow", b"GET, POST")),
        (RequestTimeoutError(), (b"connection", b"close")),
        (BodyTooLargeError(1), (b"connection", b"close")),
        (TooManyRequestsError(), (b"retry-after", b"1")),
        (UnavailableError("x"), (b"retry-after", b"1")),
        (UnavailableError("x", retry_after=7), (b"retry-after", b"7")),
    ],
)
def test_the_headers_a_refusal_carries(error: HTTPError, header: tuple[bytes, bytes]) -> None:
    """They tell a client what to do next."""
    assert header in sent_by(error)[0]["headers"]


def test_a_refused_handshake() -> None:
    """It is closed before it is accepted, which servers answer with 403."""
    assert sent_by(UnauthorizedError(), {"type": "websocket"}) == [{"type": "websocket.close", "code": 1008}]
    assert sent_by(UnauthorizedError(), {"type": "websocket", "extensions": None})[0]["type"] == "websocket.close"


def test_a_refused_handshake_with_the_extension() -> None:
    """Where the server can send an answer, it is the problem itself."""
    scope: Scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    start, body = sent_by(UnauthorizedError(), scope)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert json.loads(body["body"])["type"] == "urn:asgipipe:unauthorized"
