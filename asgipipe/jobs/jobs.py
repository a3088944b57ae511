"""What a deployment can do with jobs: what its endpoints, its command line and its users' code call."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from asgipipe.jobs.records import Event, Job, JobPage
from asgipipe.jobs.states import JobState


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be run: parameters that were validated, and how.

    `timeout` is in seconds of one attempt and can only shorten `job_timeout`; `delay` in seconds from now. A higher
    `priority` comes first. `max_attempts` and `retries` take the place of those of the settings. `capture` is the
    `capture_override` of the request, as JSON.
    """

    parameters: dict[str, object]
    run_name: str | None = None
    timeout: float | None = None
    priority: int = 0
    delay: float = 0.0
    max_attempts: int | None = None
    retries: int | None = None
    capture: bytes | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key of a client's: `caller` says whose (a digest of the auth key), `fingerprint` is a digest of the request."""

    key: str
    caller: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that a key has had: `status` is None while the first request runs; `body` is None for a job."""

    run_id: str
    status: int | None
    body: bytes | None


class BaseJobs(ABC):
    """The jobs of one deployment; called on its event loop.

    Every method may raise UnavailableError (the store cannot be reached, or the server drains) and StorageFullError.
    """

    # Jobs

    @abstractmethod
    async def submit(self, submission: Submission, key: IdempotencyKey | None = None) -> Job | Replay:
        """Accept a job, and return it once it is durable; with a key that was used before, what is known of that.

        Raises TooManyRequestsError when `max_pending_jobs` are waiting, ValidationError (422) when the key was used
        with another request, ConflictError (409) while a sync run uses it.
        """

    @abstractmethod
    async def get(self, job_id: str) -> Job | None: ...

    @abstractmethod
    async def list(self, *, state: JobState | None = None, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return the newest jobs first. Raises BadRequestError for a cursor that is none of ours."""

    @abstractmethod
    async def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of a few seconds ago at most."""

    @abstractmethod
    async def cancel(self, job_id: str, *, reason: str | None = None, by: str | None = None) -> Job:
        """Ask a job to end. Raises NotFoundError, and ConflictError when it has ended, but not by a cancel."""

    @abstractmethod
    def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[tuple[Event, ...], None]:
        """Yield the events after number `after`, in order, a few at a time, and end after the terminal one.

        Where some of them are no longer kept, it begins with a `log` event that says so and has the id of the last one
        that is gone. At most `subscriber_queue` events are held for a follower that does not come for them; it then
        reads on from the store. Raises NotFoundError.
        """

    # Idempotency keys of sync runs

    @abstractmethod
    async def reserve(self, key: IdempotencyKey, run_id: str) -> Replay | None:
        """Take a key for a sync run; None when it is taken now, else the answer that it has had.

        Raises ConflictError (409) while the first one runs, ValidationError (422) when the request was another.
        """

    @abstractmethod
    async def answer(self, key: IdempotencyKey, run_id: str, status: int, body: bytes) -> None:
        """Keep the answer of the sync run that took the key."""

    @abstractmethod
    async def release(self, key: IdempotencyKey, run_id: str) -> None:
        """Give a key back that was taken for a request which was refused in the end."""

    # Life

    @abstractmethod
    async def start(self) -> None:
        """Begin to take jobs, when the store exists; else as soon as it does."""

    @abstractmethod
    async def drain(self) -> None:
        """Take no more jobs; those that run go on. Followers end when their job does, or `stop` is called."""

    @abstractmethod
    async def stop(self) -> None:
        """Hand back the jobs that still run, end all followers, and close the store."""
