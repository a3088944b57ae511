import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait

import pytest

from asgipipe.errors import ConflictError, StorageFullError, UnavailableError
from asgipipe.stores.database import Operation, Pipelined, Row, Transaction, Value
from asgipipe.stores.inbox import FutureTicket
from asgipipe.stores.lane import Connection, Diagnosis, Lane, Remedy

PATIENCE = 20.0


class LostError(Exception):
    """The connection broke."""


class FullError(Exception):
    """There is no room."""


class Fake(Connection):
    """Keeps what was committed in `log`, and fails as `faults` say, each of which happens once."""

    def __init__(self, log: list[object], faults: dict[str, list[Exception]]) -> None:
        self.log = log
        self.faults = faults
        self.pending: list[object] = []

    def begin(self) -> None:
        self._fail("begin")
        self.pending = []

    def commit(self) -> None:
        self._fail("commit")
        self.log.extend([*self.pending, "commit"])

    def rollback(self) -> None:
        self.log.append("rollback")

    def close(self) -> None:
        self.log.append("close")

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        raise NotImplementedError

    def change(self, sql: str, *parameters: Value) -> int:
        self._fail(sql)
        self.pending.append(sql)
        return 1

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        raise NotImplementedError

    def _fail(self, what: str) -> None:
        if self.faults.get(what):
            raise self.faults[what].pop(0)


def diagnose(error: Exception) -> Diagnosis:
    if isinstance(error, LostError):
        return Diagnosis(UnavailableError("lost"), Remedy.AGAIN, replace=True)
    if isinstance(error, FullError):
        return Diagnosis(StorageFullError(), Remedy.APART)
    if isinstance(error, UnavailableError):
        return Diagnosis(error, Remedy.NONE)
    return Diagnosis(error, Remedy.APART)


class Bench:
    """A lane that does a group of operations, all queued before it starts, and ends."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.faults: dict[str, list[Exception]] = {}
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def do(self, *operations: str | Operation[int], patience: float = 100.0) -> "list[Future[int]]":
        lane = Lane(self._connect, diagnose, name="lane", place="there", gather=0, patience=patience, clock=self.clock)
        tickets = [FutureTicket(change(each) if isinstance(each, str) else each) for each in operations]
        for ticket in tickets:
            lane.inbox.put(ticket, urgent=True)
        lane.inbox.close()
        lane.start()
        wait(lane.ends, PATIENCE)
        lane.join()
        return [ticket.future for ticket in tickets]

    def _connect(self) -> Fake:
        self.log.append("connect")
        return Fake(self.log, self.faults)


def change(name: str) -> Operation[int]:
    return lambda transaction: transaction.change(name)


def errors(futures: "list[Future[int]]") -> list[type | None]:
    return [type(error) if (error := future.exception(0)) else None for future in futures]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_waits_is_one_transaction(bench: Bench) -> None:
    """Operations that wait together are committed together, in their order."""
    assert errors(bench.do("a", "b", "c")) == [None] * 3
    assert bench.log == ["connect", "a", "b", "c", "commit", "close"]


def test_operations_of_two_parts_are_sent_before_the_first_is_answered(bench: Bench) -> None:
    """Others come in between in their place, and one that refuses, in either part, refuses for itself alone."""

    def split(name: str, *, refuses: bool = False) -> Operation[int]:
        def send(transaction: Transaction) -> Callable[[], int]:
            transaction.tell(f"{name} sent")
            return answer

        def answer() -> int:
            bench.log.append(f"{name} answered")
            if refuses:
                raise ConflictError("not in the second part")
            return 1

        return Pipelined(send)

    def refuse(_: Transaction) -> Callable[[], int]:
        raise ConflictError("not in the first part")

    futures = bench.do(split("a"), split("b", refuses=True), "c", Pipelined(refuse), split("d"))
    assert errors(futures) == [None, ConflictError, None, ConflictError, None]
    answered = ["a answered", "b answered", "d answered"]
    assert bench.log == ["connect", *answered, "a sent", "b sent", "c", "d sent", "commit", "close"]


def test_a_lost_connection_is_replaced_and_the_group_repeated(bench: Bench) -> None:
    """After the connection broke at the commit, everything is done again over another one."""
    bench.faults = {"commit": [LostError(), LostError()]}
    assert errors(bench.do("a", "b")) == [None, None]
    assert bench.log == ["connect", "close", "connect", "close", "connect", "a", "b", "commit", "close"]


def test_patience_ends(bench: Bench) -> None:
    """What goes on failing is given up when the patience has passed, for the whole group."""
    bench.faults = {"begin": [LostError() for _ in range(100)]}
    assert errors(bench.do("a", "b", patience=3.0)) == [UnavailableError] * 2
    assert len(bench.faults["begin"]) > 90


def test_one_that_has_no_room_fails_alone(bench: Bench) -> None:
    """When a group does not fit, each operation is committed by itself, and those that fit are done."""
    bench.faults = {"b": [FullError(), FullError()]}
    assert errors(bench.do("a", "b", "c")) == [None, StorageFullError, None]
    assert bench.log == ["connect", "rollback", "a", "commit", "rollback", "c", "commit", "close"]


def test_trouble_in_between_ends_it_for_the_rest(bench: Bench) -> None:
    """When, operation by operation, the database itself fails, the others are not tried: they would wait in vain."""
    bench.faults = {"c": [FullError(), *(LostError() for _ in range(100))]}
    assert errors(bench.do("a", "b", "c", "d", patience=4.0)) == [None, None, UnavailableError, UnavailableError]
    assert "d" not in bench.log


def test_a_refusal_is_no_failure(bench: Bench) -> None:
    """An operation that refuses is answered, and the group is committed without being repeated."""

    def refuse(_: object) -> int:
        raise ConflictError("no")

    assert errors(bench.do("a", refuse, "b")) == [None, ConflictError, None]
    assert bench.log == ["connect", "a", "b", "commit", "close"]


def test_a_mistake_is_nobodys_alarm(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An operation's own exception goes to its caller, is undone, and is not logged as a failure of the store."""

    def mistaken(_: object) -> int:
        raise ZeroDivisionError

    with caplog.at_level(logging.DEBUG, "asgipipe.stores"):
        assert errors(bench.do("a", mistaken)) == [None, ZeroDivisionError]
    assert bench.log == ["connect", "rollback", "a", "commit", "rollback", "close"]
    assert caplog.records == []


def test_a_connection_that_cannot_be_undone_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the rollback fails as well, the connection is closed, which undoes it."""
    bench.faults = {"a": [FullError()]}

    def broken(_: Fake) -> None:
        raise LostError

    monkeypatch.setattr(Fake, "rollback", broken)
    assert errors(bench.do("a")) == [StorageFullError]
    assert bench.log == ["connect", "close"]


def test_what_nobody_wants_is_not_done(bench: Bench) -> None:
    """An operation whose future was cancelled before its turn is left out."""
    lane = Lane(bench._connect, diagnose, name="lane", gather=0)
    wanted, unwanted = FutureTicket(change("a")), FutureTicket(change("b"))
    lane.inbox.put(unwanted, urgent=True)
    lane.inbox.put(wanted, urgent=True)
    assert unwanted.future.cancel()
    lane.inbox.close()
    lane.start()
    assert wanted.future.result(PATIENCE) == 1
    lane.join()
    assert bench.log == ["connect", "a", "commit", "close"]


def test_many_threads_do_what_is_slow(bench: Bench) -> None:
    """With two threads and groups of one, two operations wait for each other and both end."""
    lane = Lane(bench._connect, diagnose, name="lane", threads=2, most=1, gather=0)
    meeting = threading.Barrier(2)

    def meet(_: object) -> int:
        return meeting.wait(PATIENCE)

    lane.start()
    tickets = [FutureTicket(meet) for _ in range(2)]
    for ticket in tickets:
        lane.inbox.put(ticket, urgent=True)
    assert {ticket.future.result(PATIENCE) for ticket in tickets} == {0, 1}
    lane.inbox.close()
    lane.join()
