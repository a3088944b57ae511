"""A queue that PgQueuer delivers: its manager on our event loop, started again whenever PostgreSQL was lost."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from random import uniform

import psycopg
from pgqueuer import QueueManager, RetryRequested
from pgqueuer.models import Job as Row

from asgipipe.errors import DefinitionError, StorageFullError, StoreError, UnavailableError
from asgipipe.jobs.postgres import deliveries
from asgipipe.jobs.postgres.deliveries import CHUNK, SETTINGS, Delivery
from asgipipe.jobs.postgres.link import Driver, Link
from asgipipe.jobs.postgres.repository import Repository, install
from asgipipe.jobs.queue import BaseJobQueue, Consumer
from asgipipe.settings.stores import is_postgresql
from asgipipe.stores.database import Database, Transaction
from asgipipe.stores.postgresql import Limits, PostgreSQLDatabase

logger = logging.getLogger("asgipipe")

_PAUSES = (0.1, 5.0)
"""Seconds before the first and, at most, each later attempt to reach PostgreSQL again."""
_SHORTEST = timedelta(seconds=0.1)
"""Before a delivery is made again whose job could not be begun."""
_AGAIN = 0.5
"""Seconds before a job is handed over again when the store could not be reached."""
_REST = 0.02
"""Seconds between looks, at least, however often others change the store."""
_LAST_ROWS = 1.0
"""Seconds that PgQueuer has at the end to write down what was delivered."""
_MOST = 100
"""Rows that are picked at once."""


class PostgresQueue(BaseJobQueue):
    """Delivers the jobs of a PostgreSQL store to workers on any number of machines.

    A row that a worker has picked is delivered to another one `lease` seconds after the last sign of life of the first.
    Every `look` seconds PgQueuer looks at its table though it was told nothing, and every `sweep` seconds or so pending
    jobs are found that have no row.
    """

    def __init__(
        self,
        *,
        lease: float = 10.0,
        look: float = 5.0,
        sweep: float = 10.0,
        clock: Callable[[], float] = time.time,
        **options: object,
    ) -> None:
        super().__init__(**options)
        for name, value in (("lease", lease), ("look", look), ("sweep", sweep)):
            if value < 0.5:
                raise ValueError(f"{name} is in seconds, and at least 0.5")
        self._lease = timedelta(seconds=lease)
        self._look = timedelta(seconds=look)
        self._interval = sweep
        self._clock = clock
        self._limits = Limits()
        self._url = ""
        self._draining = False
        self._in_trouble = False
        self._picked: set[int] = set()
        self._handlers: set[asyncio.Task[object]] = set()
        self._runs: set[asyncio.Task[timedelta | None]] = set()
        self._freed = asyncio.Event()
        self._manager: QueueManager | None = None
        self._driver: Driver | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # What becomes pending

    def check(self, store_url: str | None) -> None:
        if store_url is None or not is_postgresql(store_url):
            raise DefinitionError(
                "job_queue 'postgres' delivers the jobs of a store in PostgreSQL: set store_url to "
                "postgresql://user@host/name, or leave job_queue out"
            )

    async def open(self, database: Database) -> None:
        if not isinstance(database, PostgreSQLDatabase):
            raise StoreError(f"the job queue 'postgres' cannot deliver the jobs of {database.place}")
        self._url = database.url
        try:
            await install(self._url, self._limits)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise UnavailableError(f"The job queue cannot be reached: {_said(error)}") from None
        except psycopg.Error as error:
            raise StoreError(f"the job queue cannot have its tables in {database.place}: {_said(error)}") from None

    def on_pending(self, transaction: Transaction, job_id: str, priority: int, due_at: float) -> None:
        deliveries.add(transaction, job_id, priority, due_at - self._clock())

    def pending(self, due_at: float) -> None:
        if self._driver is not None:
            self._driver.changed()

    # Life

    async def start(self, consumer: Consumer) -> None:
        self._draining = self._in_trouble = False
        self._freed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._deliver(consumer), name="asgipipe-job-queue"),
            loop.create_task(self._sweep(consumer), name="asgipipe-job-queue-sweep"),
        ]

    async def drain(self) -> None:
        self._draining = True
        self._freed.set()
        if self._manager is not None:
            self._manager.shutdown.set()

    async def stop(self) -> None:
        await self.drain()
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        delivering, sweeping = tasks
        sweeping.cancel()
        await asyncio.wait([delivering], timeout=_LAST_ROWS)
        for task in (delivering, *self._runs):
            task.cancel()
        await asyncio.wait([*tasks, *self._runs])

    # PgQueuer

    async def _deliver(self, consumer: Consumer) -> None:
        """Have PgQueuer deliver until the drain, whatever happens to PostgreSQL."""
        pause, longest = _PAUSES
        while not self._draining:
            try:
                await self._manage(consumer)
            except Exception as error:  # boundary: jobs are delivered again, whatever PgQueuer came upon
                if not self._in_trouble:
                    self._in_trouble, pause = True, _PAUSES[0]
                    logger.warning("the job queue has lost PostgreSQL, which is tried again: %s", _said(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _manage(self, consumer: Consumer) -> None:
        """Run one manager over one connection, until the drain; raises what has ended it before."""
        link = await Link.to(self._url, self._limits)
        try:
            driver = Driver(link)
            self._picked = set()
            repository = Repository(driver, self._picked, lambda: self._room(consumer))
            manager = QueueManager(repository, channel=SETTINGS.channel)
            repository.dispatched = manager.job_context
            manager.entrypoint(consumer.deployment, accepts_context=False)(self._handler(consumer))
            self._manager, self._driver = manager, driver
            with _watching(consumer.database, driver):
                await self._run(manager, driver, min(consumer.concurrency, _MOST))
        finally:
            self._manager = self._driver = None
            await link.close()

    async def _run(self, manager: QueueManager, driver: Driver, batch: int) -> None:
        running = asyncio.create_task(
            manager.run(
                dequeue_timeout=self._look,
                batch_size=batch,
                shutdown_on_listener_failure=True,
                heartbeat_timeout=self._lease,
                log_aggregation_interval=timedelta(0),
            ),
            name="asgipipe-job-queue-manager",
        )
        lost = asyncio.create_task(driver.lost.wait())
        try:
            if self._draining:
                manager.shutdown.set()
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            await self._end(manager, running)
        if driver.error is not None:
            raise driver.error
        running.result()

    async def _end(self, manager: QueueManager, running: "asyncio.Task[None]") -> None:
        """End a manager, without waiting for the jobs that it has delivered: they go on, and so do the others."""
        manager.shutdown.set()
        self._freed.set()
        for task in tuple(self._handlers):
            task.cancel()
        _, late = await asyncio.wait([running], timeout=_LAST_ROWS)
        for task in late:
            task.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen: what was lost first is what is said

    # Deliveries

    async def _room(self, consumer: Consumer) -> int:
        """Wait until a job can be begun, and return how many can; 0 when no more is to be."""
        self._recovered()
        manager = self._manager
        while manager is not None and not manager.shutdown.is_set() and await consumer.has_room():
            self._freed.clear()
            room = min(consumer.room, consumer.concurrency - len(self._picked))
            if room > 0:
                return room
            await self._freed.wait()
        return 0

    def _recovered(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            logger.info("the job queue has PostgreSQL again")

    def _handler(self, consumer: Consumer) -> Callable[[Row], Awaitable[None]]:
        picked = self._picked

        async def handle(row: Row) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            run = asyncio.create_task(self._hand_over(consumer, Delivery.of(row.payload)))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
            try:
                delay = await asyncio.shield(run)
            finally:
                self._handlers.discard(task)
                picked.discard(row.id)
                self._freed.set()
            if delay is not None:
                raise RetryRequested(delay)

        return handle

    async def _hand_over(self, consumer: Consumer, delivery: Delivery) -> timedelta | None:
        """Have a job run to the end of its attempt; return None when that settles its delivery, else a delay.

        It goes on when the connection of the queue is lost, and while the store cannot be reached: the worker may have
        claimed the job without having been told so, and then it is no use that another one is handed it. It does not
        wait for room: there is none when jobs were begun that an earlier connection has brought, and others may have.
        """
        while True:
            try:
                if consumer.room and await consumer.run(delivery.job_id):
                    return None
                return self._delay(await consumer.database.read(delivery.due_at))
            except (UnavailableError, StorageFullError):
                await asyncio.sleep(_AGAIN)

    def _delay(self, due_at: float | None) -> timedelta | None:
        """Return when a job is delivered again that nobody has begun; None for one that needs no delivery.

        It is not due yet by the clock of this machine, or there is no place for it here any more.
        """
        if due_at is None:
            return None
        wait = timedelta(seconds=max(due_at - self._clock(), 0.0))
        return wait if self._draining else max(wait, _SHORTEST)

    # What is lost or old

    async def _sweep(self, consumer: Consumer) -> None:
        """Find the due jobs that have no delivery, at once and again and again, and shorten PgQueuer's log."""
        while True:
            try:
                await self._find_lost(consumer)
                while await consumer.database.write(deliveries.forget_log) == CHUNK:
                    pass
            except (UnavailableError, StorageFullError) as error:
                logger.debug("lost deliveries cannot be looked for now: %s", error)
            except Exception:  # boundary: whatever it is, the next look is needed all the more
                logger.exception("lost deliveries cannot be looked for, which is tried again")
            await asyncio.sleep(uniform(0.5, 1.5) * self._interval)  # noqa: S311  # no secret

    async def _find_lost(self, consumer: Consumer) -> None:
        database, deployment, now = consumer.database, consumer.deployment, self._clock()
        # A look first: to search a long list keeps nobody waiting then.
        while await database.read(partial(deliveries.any_lost, deployment=deployment, now=now)):
            count = await database.write(partial(deliveries.add_lost, deployment=deployment, now=now))
            logger.info("%d pending jobs had no delivery, and have one now", count)
            self.pending(now)
            if not count:  # somebody else sees to them
                return


@contextlib.contextmanager
def _watching(database: Database, driver: Driver) -> Iterator[None]:
    """Have PgQueuer look after changes by others, but not after each of many."""
    loop = asyncio.get_running_loop()

    waiting = False

    def look() -> None:
        nonlocal waiting
        waiting = False
        driver.changed()

    def wait() -> None:
        nonlocal waiting
        if not waiting:
            waiting = True
            loop.call_later(_REST, look)

    def changed() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            loop.call_soon_threadsafe(wait)

    end = database.watch(changed)
    try:
        yield
    finally:
        end()


def _said(error: Exception) -> str:
    kind = "" if isinstance(error, psycopg.Error) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:300]
