"""The calls of a deployment, each written once, for clients that wait and for those that await."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast
from uuid import uuid4

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from asgipipe.client import effects
from asgipipe.client.caller import Caller, Request
from asgipipe.client.effects import Flow, Give, Stream
from asgipipe.client.errors import (
    AnswerTimeoutError,
    BusyError,
    ForeignAnswerError,
    InvocationCanceledError,
    InvocationError,
    InvocationTimeoutError,
    UnreachableError,
)
from asgipipe.client.following import EVENTS, Follower, Outage
from asgipipe.client.models import (
    Accepted,
    Event,
    Health,
    Info,
    Invocation,
    Job,
    JobPage,
    JobStatus,
    RecordedRun,
    RunPage,
    RunSummary,
    T,
)
from asgipipe.client.outputs import Decode, decoded
from asgipipe.client.retry import Deadline
from asgipipe.jobs.records import TIMEOUT
from asgipipe.jobs.states import JobState
from asgipipe.settings import CaptureLike, CapturePolicy

M = TypeVar("M")

Parameters = Mapping[str, object] | BaseModel


class _Automatic(Enum):
    AUTOMATIC = "automatic"


AUTOMATIC: Final = _Automatic.AUTOMATIC
"""An Idempotency-Key that is made for the call, so that it can be repeated."""

IdempotencyKey = str | _Automatic | None

_PAGE = 100
_PARTS = 1000
_POLL = (0.05, 2.0)
"""Seconds between two looks at a job, at first and at most; in between, a tenth of the time that was waited."""


class Calls(Generic[T]):
    """`decode` makes the caller's type of outputs."""

    def __init__(self, caller: Caller, decode: Decode | None) -> None:
        self.caller = caller
        self._decode = decode

    # Runs

    def invoke(
        self,
        parameters: Parameters | None,
        named: Mapping[str, object],
        *,
        run_name: str | None,
        timeout: float | None,
        capture_override: CaptureLike | None,
        idempotency_key: IdempotencyKey,
        raise_on_failure: bool,
    ) -> Flow[Invocation[T]]:
        body = invoke_body(parameters, named, run_name, timeout, capture_override)
        advice = "the run may go on. Give the client a longer timeout, or submit the run as a job"
        request = replace(_order("sync", body, idempotency_key), advice=advice)
        answer = yield from self.caller.answer(request, self.caller.deadline(self._patience(timeout)))
        if answer.status not in {200, 500, 504} or not answer.is_envelope:
            raise answer.error()
        invocation = cast("Invocation[T]", answer.model(Invocation))
        invocation._replayed = answer.headers.get("idempotent-replayed") == "true"
        return self._checked(
            answer.url, invocation, raise_on_failure=raise_on_failure, code=TIMEOUT if answer.status == 504 else None
        )

    def submit(
        self,
        parameters: Parameters | None,
        named: Mapping[str, object],
        *,
        run_name: str | None,
        timeout: float | None,
        capture_override: CaptureLike | None,
        idempotency_key: IdempotencyKey,
        priority: int | None,
        delay: float | None,
        max_attempts: int | None,
    ) -> Flow[str]:
        """Return the id of the job."""
        body = invoke_body(parameters, named, run_name, timeout, capture_override)
        request = _order("async", body, idempotency_key, priority=priority, delay=delay, max_attempts=max_attempts)
        answer = yield from self.caller.ask(request)
        if answer.status != 202:
            raise answer.strange()
        return answer.model(Accepted).job_id

    def stream(
        self,
        parameters: Parameters | None,
        named: Mapping[str, object],
        *,
        run_name: str | None,
        timeout: float | None,
        capture_override: CaptureLike | None,
        idempotency_key: IdempotencyKey,
    ) -> Follower[Event]:
        body = invoke_body(parameters, named, run_name, timeout, capture_override)
        opening = replace(_order("stream", body, idempotency_key), accept=f"{EVENTS}, application/problem+json")
        return Follower(self.caller, Event.model_validate_json, opening=opening)

    def _patience(self, timeout: float | None) -> float | None:
        """Return how long an answer is waited for: the time of the run comes on top of that of the client."""
        return None if self.caller.timeout is None else self.caller.timeout + (timeout or 0.0)

    def _checked(
        self, url: str, invocation: Invocation[T], *, raise_on_failure: bool, code: str | None = None
    ) -> Invocation[T]:
        """Return an envelope with the caller's type in it. Raises InvocationError for one of a run that failed."""
        if invocation.success:
            if self._decode is not None:
                invocation._value = (decoded(self._decode, url, invocation.outputs or {}),)
        elif raise_on_failure:
            raise _FAILURES.get(code, InvocationError)(url, invocation)
        return invocation

    # Jobs

    def job(self, job_id: str, deadline: Deadline | None = None) -> Flow[Job[T]]:
        answer = yield from self.caller.ask(Request("GET", "jobs", (job_id,)), deadline)
        job = cast("Job[T]", answer.model(Job))
        if job.result is not None:
            self._checked(answer.url, job.result, raise_on_failure=False)
        return job

    def jobs(self, status: str | None, limit: int | None) -> Stream[Job[T]]:
        """Give the newest first, `limit` at most, page by page."""
        yield from _paged(self._job_page, {"status": status}, limit)

    def _job_page(self, query: Mapping[str, object]) -> "Flow[tuple[list[Job[T]], str | None]]":
        page = (yield from self.caller.ask(Request("GET", "jobs", query=query))).model(JobPage)
        return list(page.jobs), page.next_cursor

    def cancel(self, job_id: str, reason: str | None) -> Flow[JobState]:
        request = Request("POST", "jobs", (job_id, "cancel"), {"reason": reason})
        return (yield from self.caller.ask(request)).model(JobStatus).status

    def wait(self, job_id: str, timeout: float | None) -> Flow[Job[T]]:
        """Return the job when it has ended. Raises AnswerTimeoutError when that takes longer."""
        caller = self.caller
        deadline, began = caller.deadline(timeout), caller.retry.clock()
        outage = Outage(caller.retry, caller.root)
        while True:
            try:
                job = yield from self.job(job_id, caller.deadline(deadline.capped_by(caller.timeout)))
            except (UnreachableError, AnswerTimeoutError, BusyError) as error:
                pause = 0.0 if deadline.passed else outage.pause(error.reason, error)
            else:
                outage.end()
                if job.ended:
                    return job
                first, longest = _POLL
                pause = min(longest, max(first, (caller.retry.clock() - began) / 10))
            if deadline.passed:
                reason = f"has not ended job {job_id} within {timeout:g} s; it goes on. Wait for it again, or cancel it"
                raise AnswerTimeoutError(caller.root, reason)
            yield from effects.pause(deadline.capped(pause))

    def result(self, job_id: str, timeout: float | None, *, raise_on_failure: bool) -> Flow[Invocation[T]]:
        job = yield from self.wait(job_id, timeout)
        if job.result is None:
            raise ForeignAnswerError(self.caller.root, f"has no result of job {job_id}, which has ended")
        code = job.error_code or job.status.value
        return self._checked(self.caller.root, job.result, raise_on_failure=raise_on_failure, code=code)

    def follow(self, job_id: str, after: int) -> Follower[Event]:
        return Follower(self.caller, Event.model_validate_json, job_id, last=after)

    def outcome(self, follower: Follower[Event], *, raise_on_failure: bool) -> Flow[Invocation[T]]:
        """Return what came of a job whose events were read to the end."""
        if follower.final is None:  # it had ended before, and the deployment did not repeat its last event
            return (yield from self.result(follower.job_id, None, raise_on_failure=raise_on_failure))
        invocation = cast("Invocation[T]", Invocation.model_validate(follower.final.data))
        code = follower.final.event_type.removeprefix("pipeline_")
        return self._checked(self.caller.root, invocation, raise_on_failure=raise_on_failure, code=code)

    # Recorded runs

    def runs(self, status: str | None, pipeline: str | None, limit: int | None) -> Stream[RunSummary]:
        """Give the newest first, `limit` at most, page by page."""
        yield from _paged(self._run_page, {"status": status, "pipeline": pipeline}, limit)

    def _run_page(self, query: Mapping[str, object]) -> "Flow[tuple[list[RunSummary], str | None]]":
        page = (yield from self.caller.ask(Request("GET", "runs", query=query))).model(RunPage)
        return list(page.runs), page.next_cursor

    def run(self, run_id: str) -> Flow[RecordedRun]:
        request = Request("GET", "runs", (run_id,), {"limit": _PARTS})
        return (yield from self.caller.ask(request)).model(RecordedRun)

    # The deployment

    def info(self) -> Flow[Info]:
        return (yield from self.caller.ask(Request("GET", "info"))).model(Info)

    def health(self) -> Flow[Health]:
        return (yield from self.caller.ask(Request("GET", "health", repeatable=False))).model(Health)

    def ready(self) -> Flow[bool]:
        request = Request("GET", "ready", repeatable=False)
        answer = yield from self.caller.answer(request, self.caller.deadline(self.caller.timeout))
        if answer.status not in {200, 503}:
            raise answer.error()
        return answer.status == 200

    def status(self) -> Flow[dict[str, Any]]:
        return (yield from self.caller.ask(Request("GET", "status"))).document()

    def metrics(self) -> Flow[str]:
        answer = yield from self.caller.ask(Request("GET", "metrics", accept="text/plain"))
        return answer.body.decode("utf-8", "replace")


_FAILURES: Mapping[str | None, type[InvocationError]] = {
    TIMEOUT: InvocationTimeoutError,
    JobState.CANCELED.value: InvocationCanceledError,
}


def _order(mode: str, body: bytes, key: IdempotencyKey, **query: object) -> Request:
    """Return the request that begins a run."""
    key = uuid4().hex if key is AUTOMATIC else key
    headers = {} if key is None else {"idempotency-key": checked_idempotency_key(key)}
    return Request(
        "POST", "invoke", query={"mode": mode, **query}, headers=headers, body=body, repeatable=key is not None
    )


def checked_idempotency_key(key: str) -> str:
    if not 0 < len(key) <= 255 or any(not "!" <= character <= "~" for character in key):
        raise ValueError("an idempotency_key has 1 to 255 visible ASCII characters")
    return key


def invoke_body(
    parameters: Parameters | None,
    named: Mapping[str, object],
    run_name: str | None,
    timeout: float | None,
    capture_override: CaptureLike | None,
) -> bytes:
    """Return the body of an invoke.

    Raises TypeError for parameters that have no JSON form or are given twice, ValueError for a capture that is none.
    """
    given = dict(parameters) if isinstance(parameters, Mapping) else {}
    if isinstance(parameters, BaseModel):
        given = parameters.model_dump(mode="json", by_alias=True, exclude_unset=True)
    twice = sorted(given.keys() & named.keys())
    if twice:
        raise TypeError(f"parameters are given by name and in the mapping: {', '.join(twice)}")
    members = {
        "parameters": {**given, **named},
        "run_name": run_name,
        "timeout": timeout,
        "capture_override": _capture(capture_override),
    }
    try:
        return to_json({name: value for name, value in members.items() if value is not None}, by_alias=True)
    except PydanticSerializationError as error:
        raise TypeError(f"the parameters have no JSON form: {error}") from None


def _capture(override: CaptureLike | None) -> object:
    """Return what a request says of its capture. Raises ValueError."""
    if override is None:
        return None
    try:
        policy = CapturePolicy.model_validate(CapturePolicy.long_form(override))
    except ValidationError as error:
        told = ", ".join(str(one["msg"]) for one in error.errors(include_input=False))
        raise ValueError(f"capture_override: {told}") from None
    return policy.model_dump(mode="json", exclude_unset=True)


def _paged(
    page: Callable[[Mapping[str, object]], Flow[tuple[list[M], str | None]]],
    query: Mapping[str, object],
    limit: int | None,
) -> Stream[M]:
    """Give what is on each page; `page` returns one for a query, and where the next one begins."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        found, cursor = yield from page({**query, "limit": size, "cursor": cursor})
        for one in found[:size]:
            yield Give(one)
        left = None if left is None else left - len(found)
        if cursor is None or not found:
            return
