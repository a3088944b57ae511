"""WebSocket /stream: runs are begun, followed and cancelled by messages."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass

from asgipipe.errors import (
    BadRequestError,
    ConflictError,
    HTTPError,
    InternalError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from asgipipe.http import messages
from asgipipe.http.deadline import within
from asgipipe.http.endpoints.acceptance import LEFT
from asgipipe.http.endpoints.invoke import InvokeBody
from asgipipe.http.endpoints.jobs import CLIENT, as_job_id, known_job
from asgipipe.http.endpoints.stream import EventStreams
from asgipipe.http.exchange import exchange_of
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.messages import Members
from asgipipe.http.middleware.auth import BEARER_SUBPROTOCOL
from asgipipe.http.turn import next_turn
from asgipipe.http.types import Message, Receive, Scope, Send
from asgipipe.jobs.jobs import BaseJobs, Submission
from asgipipe.jobs.records import Job
from asgipipe.pipelines.execution import traceback_of
from asgipipe.service.deployment import BaseDeploymentService

logger = logging.getLogger("asgipipe")

SUBPROTOCOL = "asgipipe"

_GONE = 1006
_TOO_BIG = 1009
_RESTART = 1012
_LAST_WORD = 1.0
"""Seconds that a client has to take a close frame."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bytes of a message, jobs that one connection follows at once, and seconds that it may leave a frame unread."""

    max_message_size: int
    max_subscriptions: int
    send_timeout: float


class WebSocketEndpoint:
    """Accepts connections and answers their messages.

    The runs that a connection began are cancelled when its client goes away, if `cancel_on_disconnect`. A connection
    takes the place of one of the `streams`: while it is open it is no work, and what it begins is jobs.
    """

    def __init__(
        self,
        service: BaseDeploymentService,
        streams: EventStreams,
        lifecycle: Lifecycle,
        body: InvokeBody,
        limits: SocketLimits,
        *,
        cancel_on_disconnect: bool,
    ) -> None:
        self._service = service
        self._streams = streams
        self._lifecycle = lifecycle
        self._body = body
        self._limits = limits
        self._cancel_on_disconnect = cancel_on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise NotFoundError
        async with self._streams.place(exchange_of(scope)):
            await receive()  # the wish to connect
            await send({"type": "websocket.accept", "subprotocol": _subprotocol(scope)})
            await self._converse(Connection(self._service.jobs, self._body, self._limits, receive, send))

    async def _converse(self, connection: "Connection") -> None:
        connections = self._lifecycle.connections
        connections.add(connection.drain)
        if self._lifecycle.stopping:
            connection.drain()
        try:
            begun = await connection.run()
        finally:
            connections.discard(connection.drain)
        # While the server stops, nobody knows who has left: what was begun goes on, here or elsewhere.
        if self._cancel_on_disconnect and not self._lifecycle.stopping:
            await asyncio.gather(*(self._cancel(job_id) for job_id in begun))

    async def _cancel(self, job_id: str) -> None:
        with suppress(HTTPError):  # it has ended meanwhile, or the store is out of reach
            await self._service.jobs.cancel(job_id, reason=LEFT, by=CLIENT)


class Connection:
    """One accepted connection.

    Messages are answered one after the other, and every job is followed by a task of its own. All of them take turns
    to send, so a client that does not read holds up everything on its connection, and nothing else: events wait where
    followers' events do, within their bound, and messages at the server.
    """

    def __init__(self, jobs: BaseJobs, body: InvokeBody, limits: SocketLimits, receive: Receive, send: Send) -> None:
        self._jobs = jobs
        self._body = body
        self._limits = limits
        self._receive = receive
        self._send = send
        self._turn = asyncio.Lock()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._draining = False

    async def run(self) -> set[str]:
        """Answer until it is over, by whomever; return the jobs that were begun here and have not ended."""
        try:
            while (message := await self._next()) is not None:
                await self._answer(message)
        except _Gone:
            self._end(_GONE)
        finally:
            await self._stop_following()
        code = self._over.result()
        if code != _GONE:
            with suppress(_Gone):
                await self._put({"type": "websocket.close", "code": code}, _LAST_WORD)
        return self._begun

    def drain(self) -> None:
        """Begin no more, and end when nothing is followed any more."""
        self._draining = True
        if not self._followers:
            self._end(_RESTART)

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)

    # Messages

    async def _next(self) -> Message | None:
        """Return the next message; None when it is over."""
        receiving = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((receiving, self._over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not receiving.done():
                receiving.cancel()
                await asyncio.wait((receiving,))
        if self._over.done():
            return None
        message = receiving.result()
        if message["type"] != "websocket.receive":
            self._end(_GONE)
            return None
        return message

    async def _answer(self, message: Message) -> None:
        members: Members = {}
        try:
            text = self._text_of(message)
            if text is not None:
                members = messages.members_of(text)
                await self._obey(text, members)
        except HTTPError as error:
            await self._tell(messages.refused(error, members))
        except _Gone:
            raise
        except Exception as error:  # boundary: a store, or a validator of the user's, may raise anything
            await self._tell_failure(error, members)

    def _text_of(self, message: Message) -> bytes | None:
        """Return a message as UTF-8; None when it is too large, which ends the connection."""
        text: str | None = message.get("text")
        data: bytes = (message.get("bytes") or b"") if text is None else text.encode("utf-8", "replace")
        if len(data) > self._limits.max_message_size:
            self._end(_TOO_BIG)
            return None
        if text is None:
            raise BadRequestError("Messages are JSON, sent as text.")
        return data

    async def _obey(self, text: bytes, members: Members) -> None:
        kind = members.get("type", "invoke")
        if kind == "invoke":
            await self._invoke(text, members)
        elif kind == "subscribe":
            await self._subscribe(members)
        elif kind == "cancel":
            await self._jobs.cancel(as_job_id(messages.read_cancel(members)["job_id"]), by=CLIENT)
        else:
            raise BadRequestError("The type of a message is invoke, subscribe or cancel.")

    async def _invoke(self, text: bytes, members: Members) -> None:
        self._require_room(self._followers)
        self._require_room(self._begun)
        parameters, run_name, timeout, capture = self._body.read(messages.invoke_body(text, members))
        job = await self._jobs.submit(Submission(parameters, run_name=run_name, timeout=timeout, capture=capture))
        assert isinstance(job, Job), "a replay without a key"
        self._begun.add(job.id)
        await self._tell(messages.accepted(job, members))
        self._follow(job.id, 0, members)

    async def _subscribe(self, members: Members) -> None:
        asked = messages.read_subscribe(members)
        if self._draining:
            raise UnavailableError("The server is stopping.")
        self._require_room(self._followers)
        job = await known_job(self._jobs, as_job_id(asked["job_id"]))
        after = asked.get("last_event_id") or 0
        # A number that no event of a running job has yet is none of ours.
        self._follow(job.id, after if after <= job.last_event or job.state.terminal else 0, members)

    # Following

    def _require_room(self, jobs: Collection[str]) -> None:
        limit = self._limits.max_subscriptions
        if len(jobs) >= limit:
            raise TooManyRequestsError(detail=f"A connection may follow {limit} jobs at once.")

    def _follow(self, job_id: str, after: int, members: Members) -> None:
        if job_id in self._followers:
            raise ConflictError("This connection follows the job already.")
        self._followers[job_id] = asyncio.create_task(self._tell_events(job_id, after, members))

    async def _tell_events(self, job_id: str, after: int, members: Members) -> None:
        try:
            async with aclosing(self._jobs.follow(job_id, after)) as following:
                async for events in following:
                    for event in events:
                        await self._tell(messages.happened(event))
                        if event.terminal:
                            self._begun.discard(job_id)
                    await next_turn()
        except HTTPError as error:
            with suppress(_Gone):
                await self._tell(messages.refused(error, members))
        except _Gone:
            return
        except Exception as error:  # boundary: a store may raise anything
            with suppress(_Gone):
                await self._tell_failure(error, members)
        finally:
            del self._followers[job_id]
            if self._draining and not self._followers:
                self._end(_RESTART)

    async def _stop_following(self) -> None:
        tasks = tuple(self._followers.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Frames

    async def _tell(self, frame: bytes) -> None:
        """Send a frame, in turn. Raises _Gone when there is nobody to read it."""
        await self._put({"type": "websocket.send", "text": frame.decode()}, self._limits.send_timeout)

    async def _tell_failure(self, error: Exception, members: Mapping[str, object]) -> None:
        logger.error("a message over a WebSocket failed\n%s", traceback_of(error))
        await self._tell(messages.refused(InternalError(), members))

    async def _put(self, message: Message, seconds: float) -> None:
        async with self._turn:
            if self._over.done() and self._over.result() == _GONE:
                raise _Gone
            try:
                await within(seconds, self._send(message))
            except Exception as error:  # boundary: whatever a server raises when its client left, or does not read
                self._end(_GONE)
                raise _Gone from error


class _Gone(Exception):  # noqa: N818  # an event, not an error: nobody is left to answer
    """The client has left, or does not read."""


def _subprotocol(scope: Scope) -> str | None:
    """Return the subprotocol to agree on: browsers close a connection whose server chose none of those they offered."""
    offered: list[str] = scope.get("subprotocols") or []
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    return next((each for each in offered if each.startswith(BEARER_SUBPROTOCOL)), None)
