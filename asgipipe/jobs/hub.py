"""Followers: history from the store, then what happens, joined by the numbers of the events.

A follower is told of everything from the moment it came on, and reads the store from then on; what it gets both ways
it drops by its number, and where a number is missing it asks the store. So nothing needs to be locked, and nothing has
to happen at once.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from itertools import islice
from time import time
from typing import TYPE_CHECKING

from pydantic_core import to_json

from asgipipe.errors import HTTPError, NotFoundError, StorageFullError, UnavailableError
from asgipipe.jobs.records import Event, EventPage

if TYPE_CHECKING:
    from asgipipe.jobs.store import JobStore
    from asgipipe.stores.database import Database

logger = logging.getLogger("asgipipe")

_PAGE = 500
"""Events that are read from the store at once."""
_MAX_BYTES = 2 * 1024 * 1024
"""Bytes of events that are held for one follower, what it was handed last among them."""
_LOOK = 1.0
"""Seconds between looks at what other processes have written, whether or not the database tells."""
_PATIENCE = 0.5
"""Seconds before the store is asked again that could not be reached."""


class _Follower:
    """What one follower has not come for yet.

    `last` is the number of the last event it was given. It is `behind` when the store has some that are not held here;
    `dropped` when it did not come for too many: nothing is held for it then until it reads the store.
    """

    def __init__(self, last: int, capacity: int) -> None:
        self.last = last
        self.behind = True
        self.closed = False
        self._capacity = capacity
        self._held: deque[Event] = deque()
        self._bytes = 0
        self._in_hand = 0
        self._bytes_in_hand = 0
        self._dropped = False
        self._waiter: asyncio.Future[None] | None = None

    def tell(self, events: Sequence[Event], size: int) -> None:
        """Hold `events`, which follow each other, unless that are too many; `size` is theirs in bytes."""
        if not self._dropped:
            held = self._held
            if held and events[0].id != held[-1].id + 1:
                tail = held[-1].id
                if events[0].id > tail:
                    self._drop()
                events = [event for event in events if event.id > tail]
            if (
                len(held) + self._in_hand + len(events) > self._capacity
                or self._bytes + self._bytes_in_hand + size > _MAX_BYTES
            ):
                self._drop()
            elif not self._dropped:
                held.extend(events)
                self._bytes += size
        self.wake()

    def _drop(self) -> None:
        self._held.clear()
        self._bytes = 0
        self.behind = self._dropped = True

    def begin_reading(self) -> None:
        """Hold what is told from here on: the store is about to be asked for what was before."""
        self.behind = self._dropped = False

    def take(self, limit: int) -> tuple[Event, ...]:
        """Return events that follow the last one; none, and `behind`, where one between them is missing."""
        held = self._held
        while held and held[0].id <= self.last:
            held.popleft()
        if not held:
            self._bytes = 0
            return ()
        if held[0].id > self.last + 1:
            self.behind = True
            return ()
        taken = tuple(islice(held, limit))
        for _ in taken:
            held.popleft()
        self._bytes = sum(len(event.data) for event in held) if held else 0
        return taken

    def hand_over(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Count what is handed over to whoever comes for it until they come again."""
        self.last = events[-1].id
        self._in_hand, self._bytes_in_hand = len(events), sum(len(event.data) for event in events)
        return events

    async def wait(self) -> None:
        """Wait until there is something to do."""
        self._in_hand = self._bytes_in_hand = 0
        if self._held or self.behind or self.closed:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def pause(self, seconds: float) -> None:
        """Wait for a while, or until the follower is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.closed:
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Topic:
    """The followers of one job; all of them were told of the events up to number `told`, None before the first look."""

    def __init__(self) -> None:
        self.followers: set[_Follower] = set()
        self.told: int | None = None

    def tell(self, events: Sequence[Event]) -> None:
        size = sum(len(event.data) for event in events)
        for follower in self.followers:
            follower.tell(events, size)
        self.told = max(self.told or 0, events[-1].id)

    def call_on(self) -> None:
        """Have every follower ask the store."""
        for follower in self.followers:
            follower.behind = True
            follower.wake()


class Hub:
    """All followers of one deployment in this process; used on its event loop.

    `capacity` events are held for one follower, what it was handed last among them. The database is watched only while
    somebody follows.
    """

    def __init__(
        self,
        store: "JobStore",
        database: "Database",
        *,
        capacity: int,
        look: float = _LOOK,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._database = database
        self._capacity = capacity
        self._page = min(_PAGE, capacity)
        self._look = look
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._here: set[str] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def followed(self) -> frozenset[str]:
        """The ids of the jobs that somebody follows."""
        return frozenset(self._topics)

    def runs_here(self, job_id: str) -> None:
        """Say that a job's events are published here from now on: the store need not be asked for them."""
        self._here.add(job_id)

    def ended_here(self, job_id: str) -> None:
        self._here.discard(job_id)
        self._changed.set()

    def published(self, job_id: str, events: Sequence[Event]) -> None:
        """Give committed events, which follow each other, to the job's followers."""
        topic = self._topics.get(job_id)
        if topic is not None and events:
            topic.tell(events)

    async def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[tuple[Event, ...], None]:
        """Do what `BaseJobs.follow` promises. A store that cannot be reached is asked again, but for the first time.

        Ends without a terminal event when it is closed, or the job is no longer kept. Raises NotFoundError, and
        UnavailableError after `close()`.
        """
        if self._closed:
            raise UnavailableError("The server is stopping.")
        follower = _Follower(after, self._capacity)
        self._join(job_id, follower)
        try:
            page = await self._read(job_id, follower)
            if page is None:
                raise NotFoundError(f"There is no job {job_id!r}.")
            while page is not None and not follower.closed:
                events = self._told_of(page, follower)
                if events:
                    yield follower.hand_over(events)
                    if events[-1].terminal:
                        return
                if follower.last >= page.job.last_event and page.job.state.terminal:
                    return
                async for events in self._live(follower):
                    yield follower.hand_over(events)
                    if events[-1].terminal:
                        return
                page = await self._read_again(job_id, follower)
        finally:
            self._leave(job_id, follower)

    async def _live(self, follower: _Follower) -> AsyncGenerator[tuple[Event, ...], None]:
        """Yield what is told, until the store has to be asked."""
        while not (follower.behind or follower.closed):
            events = follower.take(self._page)
            if events:
                yield events
            await follower.wait()

    async def _read(self, job_id: str, follower: _Follower) -> EventPage | None:
        follower.begin_reading()
        page = await self._store.events(job_id, follower.last, self._page)
        if page is not None:
            topic = self._topics[job_id]
            topic.told = page.job.last_event if topic.told is None else topic.told
        return page

    async def _read_again(self, job_id: str, follower: _Follower) -> EventPage | None:
        while not follower.closed:
            try:
                return await self._read(job_id, follower)
            except (UnavailableError, StorageFullError):
                await follower.pause(_PATIENCE)
        return None

    def _told_of(self, page: EventPage, follower: _Follower) -> tuple[Event, ...]:
        """Return the events of a page, after one that says how many before them are no longer kept."""
        events = tuple(page.events)
        if not events:
            return ()
        follower.behind = follower.behind or events[-1].id < page.job.last_event
        gone = events[0].id - 1
        return (self._forgotten(page.job.id, follower.last, gone), *events) if gone > follower.last else events

    def _forgotten(self, job_id: str, last: int, gone: int) -> Event:
        message = f"{gone - last} events before this one are no longer kept"
        data = to_json({"level": "warning", "logger": logger.name, "message": message})
        return Event(job_id, gone, "log", None, self._clock(), data)

    # Life

    def close(self, job_ids: Collection[str] | None = None) -> None:
        """End the followers of these jobs; with None all of them, and nobody can follow from then on."""
        self._closed = self._closed or job_ids is None
        for job_id in self.followed if job_ids is None else job_ids:
            topic = self._topics.get(job_id)
            for follower in () if topic is None else topic.followers:
                follower.closed = True
                follower.wake()

    def _join(self, job_id: str, follower: _Follower) -> None:
        self._topics.setdefault(job_id, _Topic()).followers.add(follower)
        if self._watcher is None:
            self._changed = asyncio.Event()
            self._watcher = asyncio.create_task(self._watch())

    def _leave(self, job_id: str, follower: _Follower) -> None:
        topic = self._topics[job_id]
        topic.followers.discard(follower)
        if not topic.followers:
            del self._topics[job_id]
        if not self._topics and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    # Other processes

    async def _watch(self) -> None:
        loop, changed = asyncio.get_running_loop(), self._changed

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                loop.call_soon_threadsafe(changed.set)

        end = self._database.watch(wake)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look):
                        await changed.wait()
                changed.clear()
                try:
                    await self._look_around()
                except Exception as error:  # boundary: the next look asks again, whatever it was
                    if not isinstance(error, HTTPError):
                        logger.exception("could not look for the events of other processes")
        finally:
            end()

    async def _look_around(self) -> None:
        """Ask the store once how far the jobs have come that are followed here and do not run here."""
        elsewhere = [
            job_id for job_id, topic in self._topics.items() if job_id not in self._here and topic.told is not None
        ]
        marks = await self._store.marks(elsewhere) if elsewhere else {}
        for job_id in elsewhere:
            topic = self._topics.get(job_id)
            if topic is None:
                continue
            if job_id not in marks:
                topic.call_on()  # it is no longer kept: whoever asks the store sees that
            elif marks[job_id] > (topic.told or 0):
                await self._catch_up(job_id, topic, marks[job_id])

    async def _catch_up(self, job_id: str, topic: _Topic, mark: int) -> None:
        """Read once what every follower of the job is to be told."""
        while topic.followers and (topic.told or 0) < mark:
            page = await self._store.events(job_id, topic.told or 0, _PAGE)
            if page is None or not page.events:
                topic.call_on()
                return
            fresh = [event for event in page.events if event.id > (topic.told or 0)]
            if fresh:  # else they were published here meanwhile
                topic.tell(fresh)
