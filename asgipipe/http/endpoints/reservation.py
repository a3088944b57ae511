"""Idempotency keys of runs that are waited for: taken before the run, and answered with what came of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgipipe.errors import ConflictError, HTTPError
from asgipipe.http.background import Background
from asgipipe.jobs.jobs import BaseJobs, IdempotencyKey, Replay
from asgipipe.service.deployment import BaseDeploymentService

logger = logging.getLogger("asgipipe")

Answer = tuple[int, bytes]
"""Status and body."""


class Reservation:
    """A key that is taken by this request; or, with a `replay`, the answer that it has had."""

    def __init__(self, jobs: BaseJobs, key: IdempotencyKey, replay: Answer | None) -> None:
        self._jobs = jobs
        self._key = key
        self.replay = replay
        self.kept = replay is not None

    async def keep(self, status: int, body: bytes) -> None:
        """Keep the answer, also when the request is cancelled meanwhile.

        The run has happened: if its answer cannot be kept, the client gets it all the same, and the key stays taken for
        as long as this process lives or the key does, which is better than to run it twice.
        """
        self.kept = True
        await asyncio.shield(self._keep(status, body))

    async def _keep(self, status: int, body: bytes) -> None:
        try:
            await self._jobs.answer(self._key, status, body)
        except HTTPError as error:
            logger.error("the answer of an Idempotency-Key could not be kept: %s", error.detail)


class Reservations:
    def __init__(self, service: BaseDeploymentService) -> None:
        self._service = service
        self._background = Background()

    @asynccontextmanager
    async def reserved(self, key: IdempotencyKey, run_id: str) -> AsyncIterator[Reservation]:
        """Take a key for a run; on leaving it is given back unless an answer was kept.

        Raises ConflictError while another request has it, and ValidationError when it was used with another body.
        """
        jobs = self._service.jobs
        taking = asyncio.ensure_future(jobs.reserve(key, run_id))
        try:
            replay = await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._background.begin(_undo(jobs, key, taking))
            raise
        reservation = Reservation(jobs, key, None if replay is None else _answer_in(replay))
        try:
            yield reservation
        finally:
            if not reservation.kept:
                # The request itself may be ending by a cancellation: it cannot wait for anything.
                self._background.begin(jobs.release(key))


async def _undo(jobs: BaseJobs, key: IdempotencyKey, taking: "asyncio.Future[Replay | None]") -> None:
    """Give a key back that was being taken when the request was cancelled."""
    if await taking is None:
        await jobs.release(key)


def _answer_in(replay: Replay) -> Answer:
    if replay.status is None or replay.body is None:
        raise ConflictError("The first request with this Idempotency-Key is still running.")
    return replay.status, replay.body
