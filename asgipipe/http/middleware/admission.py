"""How many requests may be at work at once, how many may wait, and none while the server drains."""

import asyncio
from collections import deque

from asgipipe.errors import TooManyRequestsError
from asgipipe.http.exchange import KEY, Exchange
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.types import ASGIApp, Receive, Scope, Send

_READING = ("GET", "HEAD")


class Admission:
    """`limit` places, `free` of them not taken, and a queue of `queue` more; who finds both full is told at once."""

    def __init__(self, limit: int, queue: int) -> None:
        self.free = limit
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait for a place, in order of arrival. Raises TooManyRequestsError when the queue is full."""
        if len(self._waiting) >= self._queue:
            raise TooManyRequestsError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was handed over in the moment of the cancellation
            else:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place back: to the one who waited longest, if there is one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class AdmissionMiddleware:
    """Lets requests in one by one; GET and HEAD of `exempt` paths (probes and what only reads) are never throttled.

    It stands inside of auth, so that nobody without a key takes a place in the queue. Where the host sends no lifespan
    events, the first request starts the deployment.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, lifecycle: Lifecycle, exempt: frozenset[str]) -> None:
        self.app = app
        self._admission = admission
        self._lifecycle = lifecycle
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        if exchange.path in self._exempt and scope.get("method") in _READING:
            await self.app(scope, receive, send)
            return
        if not self._lifecycle.ready:
            await self._lifecycle.start_on_request()
        admission = self._admission
        if admission.free > 0:
            admission.free -= 1
        else:
            await admission.wait()
        exchange.release = admission.leave
        try:
            await self.app(scope, receive, send)
        finally:
            # An endpoint that leaves a thread behind takes `release` with it and calls it when the thread has ended.
            release = exchange.release
            if release is not None:
                release()
