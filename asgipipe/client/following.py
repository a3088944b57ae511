"""Following a job: its events, each once, however often the connection is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import httpx

from asgipipe.client import effects
from asgipipe.client.caller import Caller, Request, described, media_type
from asgipipe.client.effects import Flow, Give, Head, Stream
from asgipipe.client.errors import STRANGE, ClientError, ForeignAnswerError, RefusedError, UnreachableError
from asgipipe.client.event_stream import EventStreamParser, EventTooLongError
from asgipipe.client.retry import HOPELESS, NOT_SENT, PASSING, Deadline, Retry

EVENTS = "text/event-stream"

SILENCE = 60.0
"""Seconds without an event or a comment until a stream is asked for anew: the other side may be gone unnoticed.

It need not be: a deployment sends comments every `stream_heartbeat` seconds, which is 15 unless somebody has set it.
"""
_SETTLED = 5.0
"""Seconds after which a connection that has brought no event is taken for one that works."""


class QuietStreamError(Exception):
    """Nothing came on a stream for SILENCE seconds."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a stream broke off, and the error for that; without `sent`, its request did certainly not arrive."""

    reason: str
    error: ClientError | None = None
    sent: bool = True
    quiet: bool = False


class Numbered(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def job_id(self) -> str: ...
    @property
    def terminal(self) -> bool: ...


E = TypeVar("E", bound=Numbered)


class Outage:
    """The time since a deployment was lost. One that has not answered yet is tried a few times, not for long."""

    def __init__(
        self, retry: Retry, url: str, on_loss: Callable[[str], None] = lambda _: None, *, known: bool = False
    ) -> None:
        self._retry = retry
        self._url = url
        self._on_loss = on_loss
        self._known = known
        self._attempts = 0
        self._patience: Deadline | None = None

    def end(self) -> None:
        self._known = True
        self._attempts = 0
        self._patience = None

    def pause(self, reason: str, error: ClientError) -> float:
        """Return the pause before the next attempt. Raises `error` or UnreachableError after enough of them."""
        if self._patience is None:
            self._patience = Deadline(self._retry.clock, self._retry.patience)
            if self._known:
                self._on_loss(reason)
        self._attempts += 1
        pause = self._retry.pause(self._attempts, error.retry_after if isinstance(error, RefusedError) else None)
        if not self._known and (pause is None or self._attempts > self._retry.times):
            raise error
        if pause is None or self._patience.passed:
            raise UnreachableError(
                self._url, f"was lost: {reason}; the job may go on without being followed"
            ) from error
        return self._patience.capped(pause)


class Follower(Generic[E]):
    """Reads the events of a job after number `last`; `made` reads one event, and raises ValueError for what is none.

    `opening` is a request that begins the job, and answers with its events; `job_id` is empty until the first of them.
    With `known`, the job was found already: its deployment is taken for one that comes back. `on_loss` is told once why
    a connection was lost.
    """

    def __init__(
        self,
        caller: Caller,
        made: Callable[[bytes], E],
        job_id: str = "",
        *,
        last: int = 0,
        opening: Request | None = None,
        known: bool = False,
        on_loss: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.job_id = job_id
        self.last = last
        self.final: E | None = None
        self._caller = caller
        self._made = made
        self._opening = opening
        self._ended = False
        self._outage = Outage(caller.retry, caller.root, on_loss, known=known)

    def events(self) -> Stream[E]:
        """Give each event; end after the terminal one, or where the deployment says that there are no more.

        Raises ClientError.
        """
        while not self._ended:
            request = self._request()
            try:
                yield from self._connection(request)
                loss = Loss("the server ended the stream")
            except QuietStreamError:
                loss = Loss(f"nothing came for {SILENCE:g} s", quiet=True)
            except httpx.RequestError as error:
                loss = self._broken(error)
            except RefusedError as error:
                if error.status not in PASSING and not (error.status == 500 and self.job_id):
                    raise
                loss = Loss(f"it answered {error.status}", error)
            if not self._ended:
                yield from effects.pause(self._pause(request, loss))

    def _request(self) -> Request:
        if not self.job_id and self._opening is not None:
            return self._opening
        headers = {"last-event-id": str(self.last)}
        return Request("GET", "stream", (self.job_id,), accept=EVENTS, headers=headers)

    def _broken(self, error: httpx.RequestError) -> Loss:
        reason = described(error)
        told = UnreachableError(self._caller.root, f"cannot be reached: {reason}")
        if isinstance(error, HOPELESS):
            raise told from error
        return Loss(reason, told, sent=not isinstance(error, NOT_SENT))

    def _pause(self, request: Request, loss: Loss) -> float:
        """Return the pause before the next attempt. Raises ClientError when there is none."""
        error = loss.error or UnreachableError(self._caller.root, f"was lost: {loss.reason}")
        if loss.sent and not request.repeatable and not self.job_id:
            raise error  # nobody knows whether a run has begun
        if loss.quiet:
            self._outage.end()
            return 0.0
        return self._outage.pause(loss.reason, error)

    def _connection(self, request: Request) -> Stream[E]:
        """Give what one connection brings."""
        head = yield from self._opened(request)
        if head.status == 204:
            self._ended = True
            return
        parser = EventStreamParser(self._caller.max_answer)
        settled = Deadline(self._caller.retry.clock, _SETTLED)
        try:
            while not self._ended and (piece := (yield from effects.read())) is not None:
                if settled.passed:
                    self._outage.end()
                for message in parser.feed(piece):
                    yield from self._told(self._made(message.data))
        except httpx.ReadTimeout:
            raise QuietStreamError from None
        except (ValueError, EventTooLongError):
            raise ForeignAnswerError(self._caller.root, STRANGE, head.status) from None

    def _opened(self, request: Request) -> Flow[Head]:
        """Return the beginning of an answer that has events, or says that there are no more. Raises RefusedError."""
        caller = self._caller
        while True:
            url = caller.url(request)
            head = yield from effects.send(caller.send(request, url, SILENCE))
            if head.status == 204 or (head.status == 200 and media_type(head.headers) == EVENTS):
                return head
            deadline = caller.deadline(SILENCE)
            answer = yield from caller.body(url, head, deadline)
            if not (head.status in {404, 405} and (yield from caller.learn(deadline))):
                raise answer.error()

    def _told(self, event: E) -> Stream[E]:
        if self._ended or event.id <= self.last:
            return
        self._outage.end()
        self.job_id, self.last = self.job_id or event.job_id, event.id
        if event.terminal:
            self._ended, self.final = True, event
        yield Give(event)
