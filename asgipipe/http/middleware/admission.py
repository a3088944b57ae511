"""How many requests may be at work at once, how many may wait, and none while the server drains."""

import asyncio
from collections import deque

from asgipipe.errors import TooManyRequestsError, UnavailableError
from asgipipe.http.exchange import exchange_of
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.types import ASGIApp, Receive, Scope, Send


class Admission:
    """`limit` places and a queue of `queue` more; whoever finds both full is told so at once."""

    def __init__(self, limit: int, queue: int) -> None:
        self._free = limit
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Take a place, waiting for one in order of arrival. Raises TooManyRequestsError when the queue is full."""
        if self._free > 0:
            self._free -= 1
            return
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
        self._free += 1


class AdmissionMiddleware:
    """Lets requests in one by one; `exempt` paths (probes and what only reads) are never throttled.

    It stands inside of auth, so that nobody without a key takes a place in the queue.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, lifecycle: Lifecycle, exempt: frozenset[str]) -> None:
        self.app = app
        self._admission = admission
        self._lifecycle = lifecycle
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        if exchange.path in self._exempt:
            await self.app(scope, receive, send)
            return
        if self._lifecycle.draining:
            raise UnavailableError("The server is stopping.")
        admission = self._admission
        await admission.enter()
        exchange.release = admission.leave
        try:
            await self.app(scope, receive, send)
        finally:
            # An endpoint that leaves a thread behind takes `release` with it and calls it when the thread has ended.
            if exchange.release is not None:
                exchange.release()
