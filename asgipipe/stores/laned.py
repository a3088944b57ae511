"""What databases have in common whose operations are done in lanes: opening, closing, queueing, and forks."""

import asyncio
import logging
import os
from abc import abstractmethod
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

from asgipipe.errors import UnavailableError
from asgipipe.stores.database import Database, Operation, Transaction
from asgipipe.stores.inbox import FutureTicket, Mailbox, WaiterTicket
from asgipipe.stores.lane import Lane, closed

T = TypeVar("T")

logger = logging.getLogger("asgipipe")

_CLOSING = 2.0
"""Seconds that a database has for what it is doing when it is closed."""


class Opened:
    """What there is while a database is open: a lane that writes and one that reads, which may be the same.

    It belongs to the process that made it: threads do not outlive a fork, and no driver's connection may be used by two
    processes.
    """

    def __init__(self, writer: Lane, reader: Lane) -> None:
        self._writer = writer
        self._reader = reader
        self._pid = os.getpid()
        self._mailbox: Mailbox | None = None
        for lane in {writer, reader}:
            lane.start()

    @property
    def is_ours(self) -> bool:
        """False in a forked child."""
        return self._pid == os.getpid()

    def enqueue(self, operation: Operation[T], *, urgent: bool) -> "Future[T]":
        ticket = FutureTicket(operation)
        try:
            self._writer.inbox.put(ticket, urgent=urgent)
        except UnavailableError as error:
            ticket.future.set_exception(error)
        return ticket.future

    async def write(self, operation: Operation[T]) -> T:
        return await self._put(self._writer, operation)

    async def read(self, operation: Operation[T]) -> T:
        return await self._put(self._reader, operation)

    async def close(self) -> None:
        """Do what is queued and end the threads; the writer's connection goes last, because SQLite's tidies up."""
        for lane in dict.fromkeys((self._reader, self._writer)):
            lane.inbox.close()
            if await ended(lane.ends):
                lane.join()
            else:
                logger.warning("a database does not answer, and is left as it is")

    def _put(self, lane: Lane, operation: Operation[T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        mailbox = self._mailbox
        if mailbox is None or mailbox.loop is not loop:
            mailbox = self._mailbox = Mailbox(loop)
        ticket = WaiterTicket(operation, mailbox)
        lane.inbox.put(ticket, urgent=True)
        return ticket.waiter


async def ended(threads: "Iterable[Future[None]]") -> bool:
    """Wait for the ends of threads, but not long: a database that stands still must not keep a process from ending."""
    waiting = [asyncio.wrap_future(end) for end in threads]
    if not waiting:
        return True
    _, late = await asyncio.wait(waiting, timeout=_CLOSING)
    return not late


_inherited: list[Opened] = []
"""What forked children found open. It is never closed there, nor collected, which would close it: SQLite would believe
that nobody uses the file any more, and to a server it would be the end of the parent's session.
https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_"""

O = TypeVar("O", bound=Opened)  # noqa: E741  # what is opened


class LanedDatabase(Database, Generic[O]):
    """A database that is open when it has what `_start` returns."""

    _opened: O | None = None

    @abstractmethod
    def _start(self) -> O:
        """Start what there is while it is open; nothing has to be connected yet."""

    async def open(self) -> None:
        if self._is_open():
            await self.write(_nothing)  # somebody else may be opening it in this moment
            return
        opened = self._opened = self._start()
        try:
            await opened.write(_nothing)
        except BaseException:
            if self._opened is opened:
                self._opened = None
            await opened.close()
            raise

    async def close(self) -> None:
        if self._is_open():
            opened, self._opened = self._opened, None
            assert opened is not None
            await opened.close()

    def enqueue(self, operation: Operation[T], *, urgent: bool = True) -> "Future[T]":
        if not self._is_open():
            future: Future[T] = Future()
            future.set_exception(closed())
            return future
        return self._open.enqueue(operation, urgent=urgent)

    async def write(self, operation: Operation[T]) -> T:
        return await self._open.write(operation)

    async def read(self, operation: Operation[T]) -> T:
        return await self._open.read(operation)

    @property
    def _open(self) -> O:
        """What is open; raises UnavailableError when nothing is."""
        opened = self._opened
        if opened is None or not opened.is_ours:
            raise closed()
        return opened

    def _is_open(self) -> bool:
        opened = self._opened
        if opened is not None and not opened.is_ours:
            _inherited.append(opened)
            opened = self._opened = None
        return opened is not None


def _nothing(_: Transaction) -> None:
    """Do nothing: once it is done, there is a connection."""
