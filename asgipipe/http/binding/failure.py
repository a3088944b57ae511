"""The boundary around user code: whatever it raises leaves as an HTTPError, and is in the log."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Mapping
from functools import cache
from http import HTTPStatus
from typing import TypeVar

from pydantic_core import PydanticSerializationError, to_json
from starlette.exceptions import HTTPException

from asgipipe.errors import HTTPError, InternalError
from asgipipe.http.body import ClientDisconnected
from asgipipe.logs import cut
from asgipipe.pipelines.execution import traceback_of

logger = logging.getLogger("asgipipe")

MAX_LOGGED = 7 * 1024
"""Bytes of a text of the user's in the log; with what stands around it a record stays below 8 KiB."""

_KNOWN = frozenset(status.value for status in HTTPStatus)
_UNSENDABLE = re.compile(r"[\r\n\0]")

T = TypeVar("T")


async def guarded(label: str, work: Awaitable[T]) -> T:
    """Await user code; raise HTTPError for whatever it raises, logged unless it was meant for the client.

    The cancellation of the running task passes; a CancelledError that user code made up itself is a failure like
    others, as are SystemExit and KeyboardInterrupt, which would stop the server.
    """
    try:
        return await work
    except (HTTPError, ClientDisconnected):
        raise
    except HTTPException as error:
        raise (meant_for_client(error) or failed(label, error)) from error
    except BaseException as error:  # boundary: user code may raise anything; it must not reach the server
        if _is_ours(error):
            raise
        raise failed(label, error) from error


def failed(label: str, error: BaseException) -> InternalError:
    """Log that a handler failed and return what the client is told."""
    logger.error("handler %s failed\n%s", label, traceback_of(error))
    return InternalError()


def loggable(text: str) -> str:
    """Return `text` bounded, and without the lone surrogates that a host's log handlers would fail on."""
    return cut(text, MAX_LOGGED).encode("utf-8", "backslashreplace").decode()


def _is_ours(error: BaseException) -> bool:
    """Tell what the event loop raises into a coroutine from what the coroutine raised."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop is running: the coroutine is being thrown away and must not await anything
        return isinstance(error, asyncio.CancelledError | GeneratorExit)
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def meant_for_client(error: HTTPException) -> HTTPError | None:
    """Return the refusal that a handler raised, or None when it cannot be sent."""
    return sendable(error.status_code, error.detail, error.headers or {})


def sendable(status: int, given: object, headers_given: Mapping[str, object]) -> HTTPError | None:
    """Return the refusal with this status, detail and headers, or None when it cannot be sent."""
    if not 400 <= status <= 599:
        return None
    # Values such as the 7 of `{"Retry-After": 7}` are taken for what they mean.
    pairs = [(str(name), str(value)) for name, value in headers_given.items()]
    if any(_UNSENDABLE.search(text) for pair in pairs for text in pair):
        return None
    try:
        # FastAPI lets `detail` be any JSON; in a problem document it is text.
        detail = given if isinstance(given, str) else to_json(given).decode()
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in pairs]
        detail.encode()
    except (UnicodeEncodeError, PydanticSerializationError):
        return None
    return _class_for(status)(detail, headers=headers)


@cache
def _class_for(status: int) -> type[HTTPError]:
    """Return a class for `status` that takes any detail; its problem type is that of ours with the same status."""
    phrase = HTTPStatus(status).phrase if status in _KNOWN else f"Status {status}"
    slug = re.sub(r"[^a-z0-9]+", "-", phrase.lower())
    for ours in HTTPError.__subclasses__():
        if ours.status == status:
            slug, phrase = ours.slug, ours.title
    return type(f"Refusal{status}Error", (HTTPError,), {"status": status, "slug": slug, "title": phrase})
