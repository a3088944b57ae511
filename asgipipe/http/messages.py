"""What is said over WebSocket /stream: the messages of clients, and the frames they get."""

from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from asgipipe.errors import BadRequestError, HTTPError
from asgipipe.http.body import require_finite
from asgipipe.http.problems import problem
from asgipipe.http.validation import MAX_MESSAGE, refusal
from asgipipe.jobs.records import Event, Job

Members = dict[str, object]


@with_config(ConfigDict(extra="forbid", strict=True))
class Subscribe(TypedDict):
    type: Literal["subscribe"]
    id: NotRequired[object]
    job_id: str
    last_event_id: NotRequired[Annotated[int, Field(ge=0, lt=2**63)] | None]


@with_config(ConfigDict(extra="forbid", strict=True))
class Cancel(TypedDict):
    type: Literal["cancel"]
    id: NotRequired[object]
    job_id: str


_subscribe = TypeAdapter(Subscribe)
_cancel = TypeAdapter(Cancel)


def members_of(message: bytes) -> Members:
    """Return the members of a message, whatever they are. Raises BadRequestError unless it is a JSON object."""
    try:
        members: object = from_json(message, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequestError(f"The message is not valid JSON: {error}."[:MAX_MESSAGE]) from None
    if not isinstance(members, dict):
        raise BadRequestError("A message is a JSON object.")
    return members


def invoke_body(message: bytes, members: Members) -> bytes:
    """Return the body of a POST /invoke that asks for the same: without what only a message has."""
    require_finite(message, ())  # `members` no longer show a number that was too large for a float
    return to_json({name: value for name, value in members.items() if name not in ("type", "id")})


def read_subscribe(members: Members) -> Subscribe:
    """Raises ValidationError."""
    try:
        return _subscribe.validate_python(members)
    except pydantic.ValidationError as error:
        raise refusal(error) from None


def read_cancel(members: Members) -> Cancel:
    """Raises ValidationError."""
    try:
        return _cancel.validate_python(members)
    except pydantic.ValidationError as error:
        raise refusal(error) from None


def accepted(job: Job, members: Mapping[str, object]) -> bytes:
    return _json({"type": "accepted", "id": members.get("id"), "job_id": job.id, "run_id": job.id})


def happened(event: Event) -> bytes:
    return event.as_json(also=b',"type":"%b"' % event.type.encode())


def refused(error: HTTPError, members: Mapping[str, object]) -> bytes:
    """Return the frame of an error, with the `id` of the message that it answers, if that had one."""
    own = {"id": members["id"]} if "id" in members else {}
    return _json({**problem(error), **own, "type": "error"})


def _json(frame: Mapping[str, object]) -> bytes:
    return to_json(frame, inf_nan_mode="null")  # an `id` may be a number too large for a float
