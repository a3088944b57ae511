"""Operations on their way to the thread that does them, and their results on the way back."""

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

from asgipipe.errors import UnavailableError
from asgipipe.stores.database import Operation

T = TypeVar("T")


class Ticket(ABC, Generic[T]):
    """One queued operation, and whoever waits for it."""

    __slots__ = ("operation",)

    def __init__(self, operation: Operation[T]) -> None:
        self.operation = operation

    def begin(self) -> bool:
        """Return False when nobody wants it any more; not asked again once it was begun."""
        return True

    @abstractmethod
    def settle(self, value: T | None, error: Exception | None) -> "Mailbox | None":
        """Hand over the outcome; return what has to be woken for it to be seen."""


class FutureTicket(Ticket[T]):
    """For callers on any thread."""

    __slots__ = ("future",)

    def __init__(self, operation: Operation[T]) -> None:
        super().__init__(operation)
        self.future: Future[T] = Future()

    def begin(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def settle(self, value: T | None, error: Exception | None) -> None:
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)  # type: ignore[arg-type]  # T may be Optional, so None is a value here


class Mailbox:
    """Outcomes for one event loop; a wake-up hands over all that are there, because each costs the loop 10 to 50 µs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._outcomes: deque[tuple[asyncio.Future[object], object, Exception | None]] = deque()
        self._woken = False

    def put(self, waiter: "asyncio.Future[object]", value: object, error: Exception | None) -> None:
        self._outcomes.append((waiter, value, error))

    def wake(self) -> None:
        if self._woken:
            return
        self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Lowered before the box is emptied: what comes from here on either is seen below or wakes us again.
        self._woken = False
        while self._outcomes:
            waiter, value, error = self._outcomes.popleft()
            if waiter.done():
                continue
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(value)


class WaiterTicket(Ticket[T]):
    """For coroutines: one cancelled while it waits does not take its operation back."""

    __slots__ = ("mailbox", "waiter")

    def __init__(self, operation: Operation[T], mailbox: Mailbox) -> None:
        super().__init__(operation)
        self.mailbox = mailbox
        self.waiter: asyncio.Future[T] = mailbox.loop.create_future()

    def settle(self, value: T | None, error: Exception | None) -> Mailbox:
        self.mailbox.put(self.waiter, value, error)  # type: ignore[arg-type]  # a Future[T] is a Future[object] here
        return self.mailbox


Outcome = tuple[Ticket[object], object, Exception | None]


def settle(outcomes: Iterable[Outcome]) -> None:
    """Hand over outcomes; every event loop concerned is woken once."""
    mailboxes = {ticket.settle(value, error) for ticket, value, error in outcomes}
    for mailbox in mailboxes:
        if mailbox is not None:
            mailbox.wake()


class Inbox:
    """The queue of operations; `take` gives them out in groups of `most`, in the order in which they came.

    A group of operations none of which is urgent is waited for `gather` seconds, so that more join it. `taken` counts
    the groups that were given out, and `idle` the threads that wait for one.
    """

    def __init__(self, *, most: int, bound: int, gather: float) -> None:
        self.closed = False
        self.taken = 0
        self.idle = 0
        self._most = most
        self._bound = bound
        self._gather = gather
        self._tickets: deque[Ticket[object]] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._urgent = False

    def put(self, ticket: Ticket[T], *, urgent: bool) -> None:
        """Queue an operation; raises UnavailableError when too many wait, or the inbox is closed."""
        with self._condition:
            if self.closed:
                raise UnavailableError("The store is not open.")
            if len(self._tickets) >= self._bound:
                raise UnavailableError("The store cannot keep up with what it is given.")
            self._tickets.append(ticket)  # type: ignore[arg-type]  # a Ticket[T] is read as a Ticket[object] from here on
            # A thread that gathers is woken by what is urgent alone: being woken for each operation costs more than
            # doing it.
            wake = self.idle and (urgent or len(self._tickets) == 1)
            self._urgent = self._urgent or urgent
            if wake:
                self._condition.notify()

    def take(self) -> list[Ticket[object]]:
        """Wait for operations and return a group; an empty one means that the inbox is closed and empty."""
        with self._condition:
            self._wait()
            count = min(self._most, len(self._tickets))
            group = [self._tickets.popleft() for _ in range(count)]
            self._urgent = self._urgent and bool(self._tickets)
            self.taken += 1
        return group

    def close(self) -> None:
        """Accept nothing more; what is queued is still given out."""
        with self._condition:
            self.closed = True
            self._condition.notify_all()

    def _wait(self) -> None:
        self.idle += 1
        while not self._tickets and not self.closed:
            self._condition.wait()
        if self._gather and not self._urgent:
            self._linger(time.monotonic() + self._gather)
        self.idle -= 1

    def _linger(self, deadline: float) -> None:
        while not self._urgent and not self.closed and len(self._tickets) < self._most:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            self._condition.wait(remaining)
