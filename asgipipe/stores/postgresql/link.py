"""Connections of psycopg's on which no answer is waited for longer than allowed."""

import time
from typing import TypeVar

import psycopg
from psycopg.abc import Buffer, PQGen
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader

RV = TypeVar("RV")

_INTERVAL = 0.1
"""Seconds between two looks of psycopg's at whether it still has to wait."""


class SilenceError(psycopg.OperationalError):
    """The server has not answered for too long: frozen, overloaded, or gone without a word."""


class Link(psycopg.Connection[TupleRow]):
    """A connection; once silent, it raises SilenceError at each use.

    psycopg waits for as long as it takes: neither TCP nor libpq notices that a process of the server is stopped.
    """

    patience: float = 5.0
    silent: bool = False
    backend: int = 0
    started: str = ""

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        bounded = self._bounded(gen)
        # Before psycopg 3.3 there is no time-out to pass on.
        return super().wait(bounded, interval) if timeout is None else super().wait(bounded, interval, timeout)

    def _bounded(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Pass on what psycopg's generators and its loop say to each other, until nothing more comes."""
        if self.silent:
            raise SilenceError("the server did not answer")
        end = time.monotonic() + self.patience
        try:
            state = next(gen)
            while True:
                ready = yield state
                # Asked only when nothing has come: an answer that arrived while this process stood still counts.
                if not ready and time.monotonic() >= end:
                    self.silent = True
                    raise SilenceError(f"the server has not answered for {self.patience:g} s")
                state = gen.send(ready)
        except StopIteration as stop:
            result: RV = stop.value
            return result


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
