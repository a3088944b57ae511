"""The events of a job as they happen: GET /stream/{job_id}, and the answer to POST /invoke with `mode=stream`."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from asgipipe.errors import HTTPError
from asgipipe.http.binding.stream import while_connected
from asgipipe.http.endpoints.jobs import job_id_in, known_job
from asgipipe.http.exchange import Exchange, exchange_of
from asgipipe.http.middleware.admission import Admission
from asgipipe.http.sse import HEADERS, RETRY, EventStream, Frames, comment, last_event_id
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.service.deployment import BaseDeploymentService

logger = logging.getLogger("asgipipe")

MAX_STREAMS = 10_000
"""Event streams that a worker process sends at once; 429 beyond.

A stream waits most of its time, so it holds no place of `max_concurrency`, which is for work. Its own bound is for what
it does hold: a connection, and up to `subscriber_queue` events.
"""

_ELSEWHERE = comment("the server is stopping: come back, and go on at the last event")
_BROKEN_OFF = comment("the events cannot be read now: come back, and go on at the last event")


class EventStreams:
    """All event streams of a deployment in this process: at most `limit` at once."""

    def __init__(self, service: BaseDeploymentService, *, heartbeat: float, limit: int = MAX_STREAMS) -> None:
        self._service = service
        self._heartbeat = heartbeat
        self._places = Admission(limit, 0)
        self._frames = Frames()

    @asynccontextmanager
    async def place(self, exchange: Exchange) -> AsyncIterator[None]:
        """Take the place of a stream, and give that of a request back. Raises TooManyRequestsError."""
        places = self._places
        if places.free > 0:
            places.free -= 1
        else:
            await places.wait()
        try:
            release, exchange.release = exchange.release, None
            if release is not None:
                release()
            yield
        finally:
            places.leave()

    async def send(
        self, job_id: str, after: int, receive: Receive, send: Send, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> bool:
        """Send the events after number `after`, until the job or the server ends; return False when the client left."""
        ended = False

        async def work() -> None:
            nonlocal ended
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]})
            stream = EventStream(send, self._heartbeat)
            try:
                await stream.write(RETRY)
                await self._follow(job_id, after, stream)
                ended = True
                await stream.end()
            finally:
                stream.close()

        try:
            await while_connected(work(), receive)
        except OSError:  # what a server may raise when nobody is there any more (ASGI specification, version 2.4)
            logger.debug("the follower of job %s left", job_id, exc_info=True)
        return ended

    async def _follow(self, job_id: str, after: int, stream: EventStream) -> None:
        terminal = False
        try:
            async with aclosing(self._service.jobs.follow(job_id, after)) as followed:
                async for events in followed:
                    for piece in self._frames.of(events):
                        await stream.write(piece)
                    terminal = events[-1].terminal
        except HTTPError as error:
            logger.warning("the stream of job %s broke off: %s", job_id, error.detail, extra={"run_id": job_id})
            await stream.write(_BROKEN_OFF)
            return
        if not terminal:
            await stream.write(_ELSEWHERE)


class StreamEndpoint:
    def __init__(self, service: BaseDeploymentService, streams: EventStreams) -> None:
        self._service = service
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        job = await known_job(self._service.jobs, job_id_in(scope))
        after = last_event_id(exchange.headers)
        if job.state.terminal and after >= job.last_event:
            # EventSource takes it as the end, and does not come back.
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            await send({"type": "http.response.body", "body": b""})
            return
        async with self._streams.place(exchange):
            # A number that no event has yet is none of ours.
            await self._streams.send(job.id, after if after <= job.last_event else 0, receive, send)
