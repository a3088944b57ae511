"""What hands the ids of jobs to workers.

The store is the truth about jobs; a queue only delivers. Its one duty is to hand a job's id to some worker, at least
once, and soon. It knows nothing of results, and can neither lose a job nor run one twice: whoever is handed an id
claims the job in the store first, and a job that was claimed, cancelled or finished meanwhile is not claimed again.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Protocol

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.execution import summary_of
from asgipipe.settings.plugins import Plugins
from asgipipe.settings.stores import is_postgresql
from asgipipe.stores.database import Database, Transaction

_QUEUES = Plugins(
    "asgipipe.job_queues",
    "job_queue",
    "job queue",
    "a package that is not installed",
    own={"embedded": "asgipipe.jobs.embedded:EmbeddedQueue"},
)


class Consumer(Protocol):
    """The worker that a queue hands jobs to. Its methods are called on the event loop, and raise nothing of a job's."""

    @property
    def database(self) -> Database:
        """The database of the store; it is open."""

    @property
    def deployment(self) -> str:
        """The id of the deployment whose jobs it runs: others may share the database."""

    @property
    def concurrency(self) -> int:
        """How many jobs it runs at once."""

    @property
    def room(self) -> int:
        """How many jobs it could begin now; 0 from the moment on in which it drains."""

    async def has_room(self) -> bool:
        """Wait until there is room, and return True; False as soon as it drains, for good."""

    async def take(self) -> int:
        """Claim the next due jobs, as many as there is room for, begin them, and return how many that were.

        Raises UnavailableError when the store cannot be reached. What was claimed all the same is begun by a later
        call.
        """

    async def run(self, job_id: str) -> bool:
        """Claim one job and run it; return when the attempt has ended, at once when it cannot be claimed.

        It waits until there is room. True means that the job was claimed, so that its delivery is settled: when it is
        pending once more, that is another one. The job is not claimed when it is not due, or runs, or has ended. Raises
        UnavailableError when the store cannot be reached: it is to be called again, on this worker, which may have
        claimed the job all the same.
        """

    async def next_due(self) -> float | None:
        """Return when the next pending job is due, in seconds since the epoch, which may be past; None for no job."""


class BaseJobQueue(ABC):
    """Delivers the jobs of one deployment.

    A queue of your own (`job_queue`, or an entry point of the group `asgipipe.job_queues`) fills one of two forms. One
    that looks for work in the store itself calls `consumer.take()` whenever something may be due and there is room. One
    that stands on a library gives that a handler which awaits `consumer.run(job_id)`: it returns when the attempt has
    ended, so the library's heartbeats and limits hold for as long as the job runs. How often a job is delivered does no
    harm.

    All is called on the event loop of the deployment, but for `on_pending`. A queue may be started again after a stop.
    Nothing is opened before `open`. `options` are the `job_queue_kwargs`.
    """

    def __init__(self, **options: object) -> None:
        if options:
            raise TypeError(f"{type(self).__name__} takes no option {next(iter(options))!r}")

    def check(self, store_url: str | None) -> None:  # noqa: B027  # a queue may work with every store
        """Raise DefinitionError when it cannot work with the store at this place; called when a deployment is built."""

    async def open(self, database: Database) -> None:  # noqa: B027  # a queue may need nothing of the kind
        """Make ready to have jobs added; called when the database is open, also where no jobs are run.

        Raises StoreError when the queue cannot work with this database, UnavailableError when it cannot now.
        """

    def on_pending(  # noqa: B027  # see above
        self, transaction: Transaction, job_id: str, priority: int, due_at: float
    ) -> None:
        """Add what the delivery needs, in the transaction that makes a job pending; called in any thread.

        That is when it is submitted, is to be retried, was handed back, or lost its worker. `due_at` is in seconds
        since the epoch; the job is not claimed before.
        """

    def pending(self, due_at: float) -> None:  # noqa: B027  # see above
        """Learn that this process has made a job pending, due at `due_at`, and that this is durable."""

    @abstractmethod
    async def start(self, consumer: Consumer) -> None:
        """Begin to hand jobs to `consumer`; return at once. Not called where no jobs are run."""

    @abstractmethod
    async def drain(self) -> None:
        """Hand out no more jobs; those that `consumer` runs go on. Called once or not at all before `stop`."""

    @abstractmethod
    async def stop(self) -> None:
        """Release everything, also what `open` took. Jobs that still ran are handed back; the database is open."""


def load_queue(given: object, store_url: str | None, options: dict[str, object]) -> BaseJobQueue:
    """Return the queue that `given` stands for: a name, an import string or a class; None for that of the store.

    Raises DefinitionError for one that there is not, whose package is missing, or that cannot be made of `options`.
    """
    name = given
    if name is None:
        name = "postgres" if store_url is not None and is_postgresql(store_url) else "embedded"
    found = _QUEUES.load(name)
    if not (inspect.isclass(found) and issubclass(found, BaseJobQueue)):
        raise DefinitionError(f"job_queue {given!r} is not a subclass of BaseJobQueue")
    try:
        queue = found(**options)
        queue.check(store_url)
        return queue
    except DefinitionError:
        raise
    except Exception as error:  # boundary: a queue of the user's may raise anything
        raise DefinitionError(f"job_queue {found.__name__} raised {summary_of(error)}") from error
