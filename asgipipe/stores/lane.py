"""Threads that do queued operations over connections of their own: many operations, one commit.

A commit that is flushed to the disk costs a millisecond or more, whatever is in it. So everything that waits goes into
one transaction, and whatever goes wrong there is undone and done again operation by operation: one that cannot be done
does not take others with it.
"""

import logging
import math
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto

from asgipipe.errors import AsgipipeError, UnavailableError
from asgipipe.stores.database import Operation, Pipelined, Transaction
from asgipipe.stores.inbox import Inbox, Outcome, Ticket, settle

logger = logging.getLogger(__name__)

Tickets = Sequence[Ticket[object]]

_PAUSE = 0.05
"""Seconds before a group is tried again."""
_REPORT_INTERVAL = 10.0
"""Seconds between two lines of the log that say the same."""


class Connection(Transaction):
    """A connection that one thread uses; it raises the errors of its driver."""

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None:
        """Undo what was begun, if anything was; called after errors, too."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; called after errors, too, and raises nothing."""


class Remedy(Enum):
    """What to do about a group of operations that failed."""

    AGAIN = auto()  # the whole group: it may well succeed in a moment
    APART = auto()  # operation by operation: some may succeed
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an error means: what callers are told, what may help, and whether the connection is of use any more."""

    answer: Exception
    remedy: Remedy
    replace: bool = False


class Failed(Exception):  # noqa: N818  # not an error for callers: how a group's failure travels inside a lane
    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis


class Lane:
    """A queue of operations, `inbox`, and the threads that do them, from `start` until it is closed.

    Each of `ends` is done when a thread has done what was queued and closed its connection. `connect` is called in
    those threads, at first and after a connection broke; `diagnose` knows the driver's errors. A group that may succeed
    later is tried again for `patience` seconds. `place` is for the log.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        diagnose: Callable[[Exception], Diagnosis],
        *,
        name: str,
        place: str = "",
        threads: int = 1,
        most: int = 1000,
        bound: int = 20_000,
        gather: float = 0.05,
        patience: float = 4.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inbox = Inbox(most=most, bound=bound, gather=gather)
        self._connect = connect
        self._diagnose = diagnose
        self._place = place
        self._patience = patience
        self._clock = clock
        self.ends: list[Future[None]] = [Future() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(end,), name=f"{name}-{number}", daemon=True)
            for number, end in enumerate(self.ends)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the threads, whose `ends` are done."""
        for thread in self._threads:
            thread.join()

    def _work(self, end: "Future[None]") -> None:
        hand = Hand(self._connect, self._diagnose, self._place, self._patience, self._clock)
        try:
            while group := self.inbox.take():
                outcomes = hand.do([ticket for ticket in group if ticket.begin()])
                settle(outcomes)
                # What waits for the next group must not keep the results of this one alive.
                del group, outcomes
                if hand.failing is not None and self.inbox.closed:
                    self._refuse_rest(hand.failing)
        finally:
            hand.close()
            end.set_result(None)

    def _refuse_rest(self, error: Exception) -> None:
        """Give up what is queued: a close is not kept waiting by a database that does not work."""
        while group := self.inbox.take():
            settle([(ticket, None, error) for ticket in group if ticket.begin()])


class Hand:
    """Does groups of operations in one thread, over a connection that it replaces when it broke."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        diagnose: Callable[[Exception], Diagnosis],
        place: str,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self.failing: Exception | None = None
        self._reported_at = -math.inf
        self._reported = False
        self._place = place
        self._connect = connect
        self._diagnose = diagnose
        self._patience = patience
        self._clock = clock
        self._connection: Connection | None = None

    def do(self, tickets: Tickets) -> list[Outcome]:
        """Do operations, and return what came of each: every result is durable."""
        # Patience is for what begins: whoever comes while it lasts is not kept waiting as long once more.
        deadline = self._clock() + (self._patience if self.failing is None else 0)
        try:
            return self._persist(tickets, deadline)
        except Failed as failed:
            diagnosis = failed.diagnosis
        if diagnosis.remedy is Remedy.APART and len(tickets) > 1:
            return self._apart(tickets, deadline)
        return [(ticket, None, diagnosis.answer) for ticket in tickets]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _apart(self, tickets: Tickets, deadline: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number, ticket in enumerate(tickets):
            try:
                outcomes += self._persist([ticket], deadline)
            except Failed as failed:
                answer = failed.diagnosis.answer
                if failed.diagnosis.remedy is not Remedy.APART:  # it is not this one's fault: the others fare no better
                    return outcomes + [(other, None, answer) for other in tickets[number:]]
                outcomes.append((ticket, None, answer))
        return outcomes

    def _persist(self, tickets: Tickets, deadline: float) -> list[Outcome]:
        """Do operations in one transaction, again while that may help."""
        while True:
            connected = self._connection is not None
            try:
                outcomes = self._together(tickets)
            except Exception as error:  # boundary: the driver's errors and those of operations; nothing ends the thread
                diagnosis = self._diagnose(error)
                self._recover(diagnosis)
                # That an old connection broke says little: it may have been so for long, without anybody using it.
                late = self._clock() >= deadline and not (connected and diagnosis.replace)
                if diagnosis.remedy is not Remedy.AGAIN or late:
                    self._report_failure(error, diagnosis)
                    raise Failed(diagnosis) from error
                time.sleep(_PAUSE)
            else:
                if self.failing is not None:
                    self._report_success()
                return outcomes

    def _together(self, tickets: Tickets) -> list[Outcome]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        connection.begin()
        under_way = [(ticket, _sent(ticket.operation, connection)) for ticket in tickets]
        outcomes = [_outcome(ticket, answer) for ticket, answer in under_way]
        connection.commit()
        return outcomes

    def _recover(self, diagnosis: Diagnosis) -> None:
        connection = self._connection
        if connection is None:
            return
        if not diagnosis.replace:
            try:
                connection.rollback()
            except Exception:  # boundary: whatever keeps it from being undone, a closed connection has undone it
                logger.debug("a transaction could not be rolled back", exc_info=True)
            else:
                return
        connection.close()
        self._connection = None

    def _report_failure(self, error: Exception, diagnosis: Diagnosis) -> None:
        """Log that the database does not work, but not each time: everything may fail for hours."""
        if diagnosis.answer is error and diagnosis.remedy is Remedy.APART:
            return  # the operation's own fault, which its caller hears of
        self.failing = diagnosis.answer
        now = self._clock()
        if now - self._reported_at >= _REPORT_INTERVAL:
            logger.error("the store %s does not work: %s", self._place, error)
            self._reported, self._reported_at = True, now

    def _report_success(self) -> None:
        self.failing = None
        if self._reported:
            self._reported = False
            logger.warning("the store %s works again", self._place)


def _sent(operation: Operation[object], connection: Connection) -> Callable[[], object]:
    """Do an operation, or the first part of one that has two, and return what gives its outcome, or raises it."""
    try:
        if isinstance(operation, Pipelined):
            return operation.send(connection)
        value = operation(connection)
    except AsgipipeError as error:  # by contract it has changed nothing
        refusal = error
    else:
        return lambda: value

    def refuse() -> object:
        raise refusal

    return refuse


def _outcome(ticket: Ticket[object], answer: Callable[[], object]) -> Outcome:
    try:
        return ticket, answer(), None
    except AsgipipeError as refusal:  # see above
        return ticket, None, refusal


def closed() -> UnavailableError:
    return UnavailableError("The store is not open.")
