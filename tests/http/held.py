"""Jobs in memory that only a test moves on."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

from asgipipe.errors import ConflictError, HTTPError, NotFoundError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.jobs import BaseJobs, IdempotencyKey, Replay, Submission
from asgipipe.jobs.records import Event, Job, JobPage
from asgipipe.jobs.states import JobState


def job_of(job_id: str, submission: Submission) -> Job:
    return Job.pending(
        id=job_id,
        deployment="d",
        pipeline="p",
        run_name=submission.run_name or "r",
        priority=submission.priority,
        due_at=0.0,
        created_at=0.0,
        parameters=json.dumps(submission.parameters).encode(),
        options=b"{}",
    )


class HeldJobs(BaseJobs):
    """`submitted` and `canceled` say what was asked; `following` counts the followers; `refusal` refuses the next job.

    `end_followers` ends those of a job without a terminal event, as a server does that stops.
    """

    def __init__(self) -> None:
        self.submitted: list[Submission] = []
        self.canceled: list[tuple[str, str | None, str | None]] = []
        self.jobs: dict[str, Job] = {}
        self.events: dict[str, list[Event]] = {}
        self.following = 0
        self.refusal: HTTPError | Exception | None = None
        self._moved: dict[str, asyncio.Event] = {}
        self._cut: set[str] = set()

    def add(self, submission: Submission | None = None) -> str:
        job_id = uuid7()
        self.jobs[job_id] = job_of(job_id, submission or Submission({}))
        self.events[job_id] = []
        self._moved[job_id] = asyncio.Event()
        return job_id

    def happen(self, job_id: str, *kinds: str, data: bytes = b"{}") -> None:
        events = self.events[job_id]
        for kind in kinds:
            events.append(Event(job_id, len(events) + 1, kind, None, 0.0, data))
        job = self.jobs[job_id]
        state = JobState.COMPLETED if events[-1].terminal else JobState.RUNNING
        self.jobs[job_id] = replace(job, state=state, last_event=len(events))
        self._wake(job_id)

    def end_followers(self, job_id: str) -> None:
        self._cut.add(job_id)
        self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        moved, self._moved[job_id] = self._moved[job_id], asyncio.Event()
        moved.set()

    async def submit(self, submission: Submission, key: IdempotencyKey | None = None) -> Job | Replay:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(submission)
        return self.jobs[self.add(submission)]

    async def get(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    async def list(self, *, state: JobState | None = None, limit: int = 50, cursor: str | None = None) -> JobPage:
        return JobPage([], 0, None)

    async def counts(self) -> dict[JobState, int]:
        return {}

    async def cancel(self, job_id: str, *, reason: str | None = None, by: str | None = None) -> Job:
        if job_id not in self.jobs:
            raise NotFoundError("There is no job of this id.")
        if self.jobs[job_id].state is JobState.COMPLETED:
            raise ConflictError("The job has ended.")
        self.canceled.append((job_id, reason, by))
        return self.jobs[job_id]

    async def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[tuple[Event, ...], None]:
        if self.refusal is not None:
            raise self.refusal
        self.following += 1
        try:
            while True:
                moved, events = self._moved[job_id], self.events[job_id][after:]
                if events:
                    after = events[-1].id
                    yield tuple(events)
                if self.jobs[job_id].state.terminal or job_id in self._cut:
                    return
                await moved.wait()
        finally:
            self.following -= 1

    async def reserve(self, key: IdempotencyKey, run_id: str) -> Replay | None:
        return None

    async def answer(self, key: IdempotencyKey, run_id: str, status: int, body: bytes) -> None:
        return

    async def release(self, key: IdempotencyKey, run_id: str) -> None:
        return

    async def start(self) -> None:
        return

    async def drain(self) -> None:
        return

    async def stop(self) -> None:
        return
