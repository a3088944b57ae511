"""How many jobs there are is counted each time, as long as that is cheap."""

import pytest

from asgipipe.jobs.totals import Totals

TOOK = 0.5


class Counting:
    """Counts so many, and takes half a second for it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.now = 100.0
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def __call__(self) -> int:
        self.calls += 1
        self.now += TOOK
        return self.total


def test_few_are_counted_each_time() -> None:
    """A total of 10,000 is exact in every list, however long the count took."""
    counting = Counting(10_000)
    totals = Totals(counting.clock)
    assert totals.of(None, counting) == 10_000
    counting.total = 9_999
    assert totals.of(None, counting) == 9_999


@pytest.mark.parametrize(("later", "total"), [(20 * TOOK - 0.01, 10_001), (20 * TOOK, 20_000)])
def test_many_are_counted_seldom(later: float, total: int) -> None:
    """A larger total is good for twenty times as long as the count took, and not a moment longer."""
    counting = Counting(10_001)
    totals = Totals(counting.clock)
    totals.of("completed", counting)
    counting.total = 20_000
    counting.now += later
    assert totals.of("completed", counting) == total


def test_each_list_has_a_total_of_its_own() -> None:
    """What is known of one state is not taken for another's."""
    counting = Counting(10_001)
    totals = Totals(counting.clock)
    totals.of("completed", counting)
    counting.total = 3
    assert totals.of("failed", counting) == 3
    assert totals.of(None, counting) == 3
