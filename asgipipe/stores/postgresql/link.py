"""Connections of psycopg's on which no answer is waited for longer than allowed."""

import select
from typing import TypeVar

import psycopg
from psycopg.abc import Buffer, PQGen
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
from psycopg.waiting import Ready, Wait

RV = TypeVar("RV")

_ASKED: dict[int, int] = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}
_BROKEN = select.POLLERR | select.POLLHUP


class SilenceError(psycopg.OperationalError):
    """The server has not answered for too long: frozen, overloaded, or gone without a word."""


class Link(psycopg.Connection[TupleRow]):
    """A connection; once it was silent for `patience` seconds, every use of it raises SilenceError.

    psycopg waits for as long as it takes: neither TCP nor libpq notices that a process of the server is stopped.
    """

    patience: float = 5.0
    silent: bool = False
    backend: int = 0
    started: str = ""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Do what psycopg's own does, within limits."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        if self.silent:
            raise SilenceError("the server did not answer")
        poll, socket = select.poll(), self.pgconn.socket
        try:
            asked = next(gen)
            while True:
                poll.register(socket, _ASKED[asked])
                asked = gen.send(self._ready(poll))
        except StopIteration as stop:
            result: RV = stop.value
            return result

    def _ready(self, poll: select.poll) -> Ready:
        found = poll.poll(self.patience * 1000)
        if not found:
            self.silent = True
            raise SilenceError(f"the server has not answered for {self.patience:g} s")
        ((_, events),) = found
        # What is broken can be read: libpq then finds out how.
        reading = events & (select.POLLIN | _BROKEN)
        if events & select.POLLOUT:
            return Ready.RW if reading else Ready.W
        return Ready.R


class _NumberLoader(NumericBinaryLoader):
    """For sums of integers, which PostgreSQL gives as NUMERIC."""

    def load(self, data: Buffer) -> int | float:  # type: ignore[override]  # the point of it
        number = super().load(data)
        return int(number) if number == number.to_integral_value() else float(number)


def adapt(link: Link) -> None:
    """Make integers what the columns are: psycopg sends small ones as SMALLINT, and sums come as Decimal."""
    link.adapters.register_dumper(int, Int8BinaryDumper)
    link.adapters.register_dumper(bool, Int8BinaryDumper)
    link.adapters.register_loader("numeric", _NumberLoader)
