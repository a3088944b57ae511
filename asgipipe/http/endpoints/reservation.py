"""Idempotency keys of runs that are waited for: taken before the run, and answered with what came of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from asgipipe.errors import ConflictError, StorageFullError, UnavailableError
from asgipipe.http.background import Background
from asgipipe.jobs.jobs import BaseJobs, IdempotencyKey, Replay
from asgipipe.service.deployment import BaseDeploymentService

logger = logging.getLogger("asgipipe")

_PAUSES = (0.1, 10.0)
"""Seconds before the second and, at most, each later attempt to tell the store what became of a key."""
_ATTEMPTS = 65
"""Ten minutes, in all."""

Answer = tuple[int, bytes]
"""Status and body."""


class Reservation:
    """A key that is taken by this request; or, with a `replay`, the answer that it has had."""

    def __init__(self, held: "_Held", background: Background, replay: Answer | None) -> None:
        self._held = held
        self._background = background
        self.replay = replay
        self.kept = replay is not None

    async def keep(self, status: int, body: bytes) -> None:
        """Keep the answer, also when the request is cancelled meanwhile.

        The run has happened: while its answer cannot be kept, the client gets it all the same, and the key stays taken,
        which is better than to run it twice.
        """
        self.kept = True
        try:
            await asyncio.shield(self._held.answer(status, body))
        except (UnavailableError, StorageFullError):
            self._background.begin(_insist(lambda: self._held.answer(status, body)))


@dataclass(frozen=True, slots=True)
class _Held:
    """A key that one run has taken, or may have."""

    jobs: BaseJobs
    key: IdempotencyKey
    run_id: str

    async def answer(self, status: int, body: bytes) -> None:
        await self.jobs.answer(self.key, self.run_id, status, body)

    async def release(self) -> None:
        await self.jobs.release(self.key, self.run_id)


class Reservations:
    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service
        self._background = Background()

    @asynccontextmanager
    async def reserved(self, key: IdempotencyKey, run_id: str) -> AsyncIterator[Reservation]:
        """Take a key for a run; on leaving it is given back unless an answer was kept.

        Raises ConflictError while another request has it, and ValidationError when it was used with another body.
        """
        held = _Held(self._service.jobs, key, run_id)
        taking = asyncio.ensure_future(held.jobs.reserve(key, run_id))
        try:
            replay = await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._background.begin(_undo(held, taking))
            raise
        except UnavailableError:  # it may have been taken: nobody knows the outcome of a commit that was not answered
            self._background.begin(_insist(held.release))
            raise
        reservation = Reservation(held, self._background, None if replay is None else _answer_in(replay))
        try:
            yield reservation
        finally:
            if not reservation.kept:
                # The request itself may be ending by a cancellation: it cannot wait for anything.
                self._background.begin(_insist(held.release))


async def _undo(held: _Held, taking: "asyncio.Future[Replay | None]") -> None:
    """Give a key back that was being taken when the request was cancelled."""
    if await taking is None:
        await _insist(held.release)


async def _insist(change: Callable[[], Awaitable[None]]) -> None:
    """Make a change in the store, again and again until it can be made; for ten minutes at most."""
    pause, longest = _PAUSES
    for _ in range(_ATTEMPTS):
        try:
            await change()
        except (UnavailableError, StorageFullError):
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        else:
            return
    logger.error("an Idempotency-Key stays taken until this process ends: the store did not take what became of it")


def _answer_in(replay: Replay) -> Answer:
    if replay.status is None or replay.body is None:
        raise ConflictError("The first request with this Idempotency-Key is still running.")
    return replay.status, replay.body
