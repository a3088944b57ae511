"""The jobs of a deployment in its store: every statement about them is here, or in the modules that this one calls.

Whatever an attempt writes names its number, and changes nothing once another one owns the job, or nobody does. What was
done already when the outcome of a commit was unknown is found done.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from asgipipe.errors import TooManyRequestsError
from asgipipe.jobs import keys
from asgipipe.jobs.cursors import cursor_after, job_before
from asgipipe.jobs.jobs import IdempotencyKey, Replay
from asgipipe.jobs.keys import HeldKey, Taking
from asgipipe.jobs.records import Addition, Ending, Event, EventPage, Job, JobPage
from asgipipe.jobs.retention import prune_jobs, prune_keys
from asgipipe.jobs.room import Room
from asgipipe.jobs.rows import COLUMNS, StaleAttemptError, found, job_of
from asgipipe.jobs.states import JobState
from asgipipe.jobs.totals import Totals
from asgipipe.jobs.transitions import Envelope, OnPending, Transitions
from asgipipe.stores.database import Database, Pipelined, Transaction, Value

__all__ = ["JobStore", "StaleAttemptError"]

T = TypeVar("T")

_MARKS = 500
"""How many jobs one statement asks for."""
_PAGE_BYTES = 512 * 1024
"""Bytes of events that are read at once, unless a single one has more."""


class JobStore:
    """The jobs of one deployment; those of others in the same database are as if they were not there.

    `on_pending(transaction, job_id, priority, due_at)` is called in every transaction that makes a job pending. At
    most `max_events` events are kept of a job. Each method raises what the database does: UnavailableError,
    StorageFullError.
    """

    def __init__(
        self,
        database: Database,
        deployment: str,
        *,
        clock: Callable[[], float] = time.time,
        on_pending: OnPending | None = None,
        max_events: int = 100_000,
    ) -> None:
        self._database = database
        self.deployment = deployment
        self._clock = clock
        self._moves = Transitions(deployment, clock, on_pending, max_events)
        self._room = Room(deployment)
        self._totals = Totals()

    # Jobs

    async def insert(
        self, job: Job, *, limit: int, key: IdempotencyKey | None = None, ttl: float = 0.0
    ) -> Job | Replay:
        """Accept a pending job; with a key that was used before, return what that stands for.

        Raises TooManyRequestsError when `limit` jobs are pending, ValidationError when the key was used with another
        request, ConflictError while a sync run uses it. `ttl` is how many seconds the key is good for.
        """
        if key is None:
            return await self._database.write(Pipelined(lambda transaction: self._insert(transaction, job, limit)))
        taking = Taking(self.deployment, key, job.id, None, self._clock(), ttl)
        outcome = await self._unless_held(partial(self._insert_with_key, job, limit, taking))
        return outcome.replay(key.fingerprint) if isinstance(outcome, HeldKey) else outcome

    def _insert(self, transaction: Transaction, job: Job, limit: int) -> Callable[[], Job]:
        if (accepted := self._accepted(transaction, job, limit)) is not None:
            return lambda: accepted
        return self._moves.insert(transaction, job, keyed=False)

    def _insert_with_key(
        self, job: Job, limit: int, taking: Taking, dead: Collection[int], transaction: Transaction
    ) -> Job | HeldKey:
        taking = replace(taking, dead=dead)
        if (held := taking.obstacle(transaction)) is not None:
            return held
        if (accepted := self._accepted(transaction, job, limit)) is not None:
            return accepted
        return taking.take(transaction) or self._moves.insert(transaction, job, keyed=True)()

    def _accepted(self, transaction: Transaction, job: Job, limit: int) -> Job | None:
        """See that there is room for a job; return it when it was accepted already, and there is none for others."""
        try:
            self._room.take(transaction, limit)
        except TooManyRequestsError:
            if (accepted := found(transaction, self.deployment, job.id)) is None:
                raise
            return accepted
        return None

    async def get(self, job_id: str) -> Job | None:
        return await self._database.read(lambda transaction: found(transaction, self.deployment, job_id))

    async def page(self, state: JobState | None, limit: int, cursor: str | None) -> JobPage:
        """Return the newest jobs first. Raises BadRequestError for a cursor that is none of ours.

        A total of very many may be some seconds old.
        """
        before = None if cursor is None else job_before(cursor)
        return await self._database.read(lambda transaction: self._page(transaction, state, limit, before))

    def _page(self, transaction: Transaction, state: JobState | None, limit: int, before: str | None) -> JobPage:
        where, parameters = "deployment = ?", [self.deployment]
        if state is not None:
            where, parameters = f"{where} AND state = ?", [*parameters, state.value]
        total = self._totals.of(state, partial(_count, transaction, where, tuple(parameters)))
        if before is not None:
            where, parameters = f"{where} AND id < ?", [*parameters, before]
        sql = f"SELECT {COLUMNS} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608  # constants
        jobs = [job_of(row) for row in transaction.rows(sql, *parameters, limit + 1)]
        return JobPage(jobs[:limit], total, cursor_after(jobs[limit - 1].id) if len(jobs) > limit else None)

    async def counts(self) -> dict[JobState, int]:
        sql = "SELECT state, COUNT(*) FROM jobs WHERE deployment = ? GROUP BY state"
        rows = await self._database.read(lambda transaction: transaction.rows(sql, self.deployment))
        counted: dict[str, int] = dict(rows)  # type: ignore[arg-type]  # a text and a number
        return {state: counted.get(state.value, 0) for state in JobState}

    # Delivery

    async def claim(self, owner: int, limit: int) -> list[Job]:
        """Make `owner` run the next jobs that are due: highest priority first, oldest first."""
        claimed: list[Job] = []

        def operation(transaction: Transaction) -> list[Job]:
            nonlocal claimed
            claimed = self._moves.still_claimed(transaction, claimed)
            claimed += self._moves.claim(transaction, owner, limit - len(claimed))
            if claimed:
                self._room.freed()
            return claimed

        return await self._database.write(operation)

    async def claim_one(self, owner: int, job_id: str) -> Job | None:
        """Make `owner` run this job; None when it is not pending, or not due."""
        claimed: list[Job] = []

        def send(transaction: Transaction) -> Callable[[], Job | None]:
            nonlocal claimed
            self._room.freed()
            if claimed and (claimed := self._moves.still_claimed(transaction, claimed)):
                return lambda: claimed[0]
            answer = self._moves.claim_one(transaction, owner, job_id)

            def outcome() -> Job | None:
                if (job := answer()) is not None:
                    claimed.append(job)
                return job

            return outcome

        return await self._database.write(Pipelined(send))

    async def owned(self, owner: int) -> list[Job]:
        """Return what `owner` runs: also what it claimed without having been told so."""
        where = "deployment = ? AND state = 'running' AND owner = ?"
        sql = f"SELECT {COLUMNS} FROM jobs WHERE {where} ORDER BY id"  # noqa: S608  # constants
        rows = await self._database.read(lambda transaction: transaction.rows(sql, self.deployment, owner))
        return [job_of(row) for row in rows]

    async def next_due(self) -> float | None:
        """Return when the next pending job is due, which may be past; None when there is none."""
        return await self._database.read(self._next_due)

    def _next_due(self, transaction: Transaction) -> float | None:
        ready = "SELECT 1 FROM jobs WHERE deployment = ? AND state = 'pending' AND delayed = 0 LIMIT 1"
        if transaction.row(ready, self.deployment) is not None:
            return self._clock()
        waiting = "SELECT due_at FROM jobs WHERE deployment = ? AND state = 'pending' AND delayed = 1"
        row = transaction.row(f"{waiting} ORDER BY due_at LIMIT 1", self.deployment)
        return None if row is None else float(row[0] or 0)

    async def owners(self) -> set[int]:
        """Return the workers that run jobs, or sync runs with a key."""
        sql = (
            "SELECT owner FROM jobs WHERE deployment = ? AND state = 'running'"
            " UNION SELECT owner FROM idempotency_keys WHERE deployment = ? AND status IS NULL"
        )
        rows = await self._database.read(lambda transaction: transaction.rows(sql, self.deployment, self.deployment))
        return {owner for (owner,) in rows if isinstance(owner, int)}

    # Attempts

    async def append(
        self,
        job_id: str,
        attempt: int,
        events: Sequence[Event],
        *,
        progress: bytes | None = None,
        results: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        """Add events, the latest progress, and results of steps: position, name, JSON. Raises StaleAttemptError.

        Events that are there already are left as they are.
        """
        addition = Addition(events, progress, results)
        await self._database.write(
            Pipelined(lambda transaction: self._moves.append(transaction, job_id, attempt, addition))
        )

    async def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        *,
        result: bytes,
        error: str | None,
        error_code: str | None,
        execution_time: float | None,
        events: Sequence[Event],
    ) -> None:
        """End a job; `events`, those that may not be there yet, end with the terminal one. Raises StaleAttemptError."""
        ending = Ending(state, result, error, error_code, execution_time, events)
        await self._database.write(
            Pipelined(lambda transaction: self._moves.finish(transaction, job_id, attempt, ending))
        )

    async def put_back(
        self, job_id: str, attempt: int, *, due_at: float, failed: bool, events: Sequence[Event] = ()
    ) -> Job:
        """Make a running job pending: a retry when it `failed`, else a hand-over. Raises StaleAttemptError."""
        return await self._database.write(
            lambda transaction: self._moves.put_back(
                transaction, job_id, attempt, due_at=due_at, failed=failed, events=events
            )
        )

    async def lose(self, job_id: str, attempt: int, envelope: Envelope) -> Job:
        """Do with one running job what `take_over` does with those of a dead worker. Raises StaleAttemptError."""
        return await self._database.write(lambda transaction: self._moves.lose(transaction, job_id, attempt, envelope))

    async def results(self, job_id: str) -> dict[tuple[int, str], bytes]:
        """Return the results of steps that were kept, by position and name."""
        sql = "SELECT position, name, value FROM step_results WHERE job_id = ?"
        rows = await self._database.read(lambda transaction: transaction.rows(sql, job_id))
        return {(position, name): value for position, name, value in rows}  # type: ignore[misc]  # as the table says

    # What comes from outside

    async def take_over(self, dead: Collection[int], envelope: Envelope) -> list[Job]:
        """See to the jobs of workers that are `dead`, and return them as they are then.

        Each is pending again at once; or failed as `interrupted`, when that was its last attempt; or canceled, when
        that had been asked for. What those workers held of keys is given back. At most 1000 jobs of each are seen to.
        """
        workers = sorted(dead)
        return await self._database.write(
            lambda transaction: [
                job for worker in workers for job in self._moves.take_over(transaction, worker, envelope)
            ]
        )

    async def request_cancel(self, job_id: str, *, reason: str | None, by: str | None, envelope: Envelope) -> Job:
        """Cancel a pending job; note for the owner of a running one that it is to be cancelled.

        Raises NotFoundError, and ConflictError for a job that has ended, but not by a cancel.
        """

        def operation(transaction: Transaction) -> Job:
            self._room.freed()
            return self._moves.cancel(
                transaction, job_id, reason=_storable(reason), by=_storable(by), envelope=envelope
            )

        return await self._database.write(operation)

    async def cancel_requests(self, owner: int) -> list[tuple[str, str | None]]:
        """Return which of the jobs that `owner` runs are to be cancelled, each with the reason."""
        sql = (
            "SELECT id, cancel_reason FROM jobs"
            " WHERE deployment = ? AND state = 'running' AND owner = ? AND cancel_requested = 1"
        )
        rows = await self._database.read(lambda transaction: transaction.rows(sql, self.deployment, owner))
        return [(str(job_id), None if reason is None else str(reason)) for job_id, reason in rows]

    # Events

    async def events(self, job_id: str, after: int, limit: int) -> EventPage | None:
        """Return the kept events after number `after`; None when there is no such job.

        They are `limit` at most, and fewer where they are large; one at least, if there is one.
        """
        return await self._database.read(lambda transaction: self._events(transaction, job_id, after, limit))

    def _events(self, transaction: Transaction, job_id: str, after: int, limit: int) -> EventPage | None:
        job = found(transaction, self.deployment, job_id)
        if job is None:
            return None
        rows = transaction.rows(
            "SELECT job_id, id, type, step_name, at, data FROM events"
            " WHERE job_id = ? AND id > ? AND id <= ? ORDER BY id",
            job_id,
            after,
            self._last_of_page(transaction, job_id, after, limit),
        )
        return EventPage(job, [Event(*row) for row in rows])  # type: ignore[arg-type]  # the columns are the fields

    def _last_of_page(self, transaction: Transaction, job_id: str, after: int, limit: int) -> int:
        last, size = after, 0
        sizes = transaction.rows(
            "SELECT id, length(data) FROM events WHERE job_id = ? AND id > ? ORDER BY id LIMIT ?", job_id, after, limit
        )
        for number, length in sizes:
            assert isinstance(number, int)
            assert isinstance(length, int)
            size += length
            if size > _PAGE_BYTES and last > after:
                break
            last = number
        return last

    async def marks(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of the last event of each of these jobs that there is."""
        wanted = list(job_ids)
        return await self._database.read(lambda transaction: self._marks(transaction, wanted))

    def _marks(self, transaction: Transaction, wanted: Sequence[str]) -> dict[str, int]:
        marks: dict[str, int] = {}
        for start in range(0, len(wanted), _MARKS):
            some = wanted[start : start + _MARKS]
            places = ", ".join("?" * len(some))
            sql = f"SELECT id, last_event FROM jobs WHERE deployment = ? AND id IN ({places})"  # noqa: S608  # question marks
            marks.update(transaction.rows(sql, self.deployment, *some))  # type: ignore[arg-type]  # a text and a number
        return marks

    # Retention

    async def prune(self, *, jobs_before: float | None, keys_before: float, limit: int) -> int:
        """Remove at most `limit` rows of what is old, and return how many; 0 when there is no more.

        That is jobs which ended before `jobs_before` (None: never) with their events, and keys that expired before
        `keys_before`, those of all deployments. A job to which a key leads is kept as long as that.
        """

        def operation(transaction: Transaction) -> int:
            removed = prune_keys(transaction, keys_before, limit)
            if jobs_before is None or removed == limit:
                return removed
            return removed + prune_jobs(transaction, self.deployment, jobs_before, limit - removed)

        return await self._database.write(operation)

    async def release_keys_of_dead(self) -> None:
        """Give back the keys of sync runs whose worker has died; where jobs are run, `take_over` does that sooner."""
        sql = "SELECT DISTINCT owner FROM idempotency_keys WHERE deployment = ? AND status IS NULL"
        rows = await self._database.read(lambda transaction: transaction.rows(sql, self.deployment))
        owners = {owner for (owner,) in rows if isinstance(owner, int)}
        for owner in sorted(await self._database.dead(owners)) if owners else ():
            await self._database.write(partial(keys.release_all, deployment=self.deployment, owner=owner))

    # Idempotency keys of sync runs

    async def reserve(self, key: IdempotencyKey, run_id: str, *, owner: int, ttl: float) -> Replay | None:
        """Take a key for a sync run of the worker `owner`; None when it is taken now, else the answer that it has had.

        Raises ConflictError while the first one runs, ValidationError when the request was another. A key that a dead
        worker took and did not answer is taken anew.
        """
        taking = Taking(self.deployment, key, run_id, owner, self._clock(), ttl)

        def operation(dead: Collection[int], transaction: Transaction) -> HeldKey | None:
            wish = replace(taking, dead=dead)
            return wish.obstacle(transaction) or wish.take(transaction)

        held = await self._unless_held(operation)
        return None if held is None else held.replay(key.fingerprint)

    async def answer(self, key: IdempotencyKey, run_id: str, *, status: int, body: bytes) -> None:
        """Keep the answer of the sync run that took the key, unless it is another one's by now."""
        await self._database.write(
            lambda transaction: keys.answer(transaction, self.deployment, key, run_id, status=status, body=body)
        )

    async def release(self, key: IdempotencyKey, run_id: str) -> None:
        """Give back a key that a sync run took and has no answer for."""
        await self._database.write(lambda transaction: keys.release(transaction, self.deployment, key, run_id))

    async def _unless_held(self, operation: Callable[[Collection[int], Transaction], T | HeldKey]) -> T | HeldKey:
        """Do an operation that needs a key; what the dead hold of keys is no obstacle."""
        outcome = await self._database.write(partial(operation, ()))
        if not isinstance(outcome, HeldKey) or not outcome.running or outcome.owner is None:
            return outcome
        dead = await self._database.dead({outcome.owner})
        return await self._database.write(partial(operation, dead)) if dead else outcome


def _count(transaction: Transaction, where: str, parameters: Sequence[Value]) -> int:
    ((total,),) = transaction.rows(f"SELECT COUNT(*) FROM jobs WHERE {where}", *parameters)  # noqa: S608  # constants
    assert isinstance(total, int)
    return total


def _storable(text: str | None) -> str | None:
    """Return a text with question marks for lone surrogates, which no database takes."""
    return None if text is None else text.encode("utf-8", "replace").decode()
