"""Runs that are accepted as jobs: the answers to POST /invoke with `mode=async` and `mode=stream`."""

from contextlib import suppress
from dataclasses import dataclass

from pydantic_core import to_json

from asgipipe.errors import HTTPError
from asgipipe.http.background import Background
from asgipipe.http.endpoints.jobs import CLIENT
from asgipipe.http.endpoints.stream import EventStreams
from asgipipe.http.exchange import exchange_of, public_path
from asgipipe.http.idempotency import REPLAYED
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.modes import APPLIED, VARY, Manner, Mode
from asgipipe.http.responses import JSON, respond
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.jobs.jobs import IdempotencyKey, Replay, Submission
from asgipipe.jobs.states import JobState
from asgipipe.service.deployment import BaseDeploymentService

LEFT = "the client went away"


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is to be a job."""

    submission: Submission
    manner: Manner
    key: IdempotencyKey | None


class Acceptance:
    """`jobs_path` and `stream_path` are where jobs and their events are found; None where that is switched off.

    With `cancel_on_disconnect` a run is cancelled when the client leaves for which it is streamed.
    """

    def __init__(
        self,
        service: BaseDeploymentService,
        streams: EventStreams,
        lifecycle: Lifecycle,
        *,
        jobs_path: str | None,
        stream_path: str | None,
        cancel_on_disconnect: bool,
    ) -> None:
        self._service = service
        self._streams = streams
        self._lifecycle = lifecycle
        self._jobs_path = jobs_path
        self._stream_path = stream_path
        self._cancel_on_disconnect = cancel_on_disconnect
        self._background = Background()

    async def answer(self, order: Order, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer once the job is durable."""
        if order.manner.mode is Mode.STREAM:
            await self._stream(order, scope, receive, send)
        else:
            await self._accept(order, scope, send)

    async def _accept(self, order: Order, scope: Scope, send: Send) -> None:
        job_id, replayed = await self._submit(order)
        status_url = _link(scope, self._jobs_path, job_id)
        answer = {
            "job_id": job_id,
            "run_id": job_id,
            "status": JobState.PENDING.value,
            "status_url": status_url,
            "stream_url": _link(scope, self._stream_path, job_id),
        }
        headers = [VARY]
        if status_url is not None:
            headers.append((b"location", status_url.encode()))
        if order.manner.preferred:
            headers.append(APPLIED)
        if replayed:
            headers.append(REPLAYED)
        await respond(send, 202, JSON, to_json(answer), headers)

    async def _stream(self, order: Order, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the events of the job. One who only follows the run of another request cancels nothing."""
        async with self._streams.place(exchange_of(scope)):
            job_id, replayed = await self._submit(order)
            stayed = False
            try:
                headers = [VARY, REPLAYED] if replayed else [VARY]
                stayed = await self._streams.send(job_id, 0, receive, send, headers)
            finally:
                # While the server stops, nobody knows who has left: the job goes on, here or elsewhere.
                if self._cancel_on_disconnect and not (stayed or replayed or self._lifecycle.stopping):
                    self._background.begin(self._cancel(job_id))

    async def _submit(self, order: Order) -> tuple[str, bool]:
        """Return the job's id, and whether it is that of an earlier request."""
        outcome = await self._service.jobs.submit(order.submission, order.key)
        return (outcome.run_id, True) if isinstance(outcome, Replay) else (outcome.id, False)

    async def _cancel(self, job_id: str) -> None:
        with suppress(HTTPError):  # it has ended meanwhile, or the store is out of reach
            await self._service.jobs.cancel(job_id, reason=LEFT, by=CLIENT)


def _link(scope: Scope, path: str | None, job_id: str) -> str | None:
    return None if path is None else public_path(scope, f"{path}/{job_id}")
