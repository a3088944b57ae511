from unittest.mock import create_autospec

import pytest

from asgipipe.errors import TooManyRequestsError
from asgipipe.jobs.room import Room
from asgipipe.stores.database import Transaction


class Bench:
    """A store with so many pending `jobs`; `counted` is how often they were counted."""

    def __init__(self, jobs: int = 0) -> None:
        self.now = 100.0
        self.jobs = jobs
        self.counted = 0
        self.transaction = create_autospec(Transaction, instance=True)
        self.transaction.rows.side_effect = self._count
        self.room = Room("d", lambda: self.now)

    def _count(self, _: str, deployment: str, limit: int) -> list[tuple[int]]:
        assert deployment == "d"
        self.counted += 1
        return [(min(self.jobs, limit),)]

    def enter(self, limit: int) -> None:
        self.room.take(self.transaction, limit)
        self.jobs += 1


@pytest.mark.parametrize("limit", [1, 2, 63, 64, 65, 1000])
def test_the_limit_is_exact(limit: int) -> None:
    """One process lets in exactly as many as may wait."""
    bench = Bench()
    for _ in range(limit):
        bench.enter(limit)
    with pytest.raises(TooManyRequestsError):
        bench.enter(limit)


def test_counting_is_seldom_where_there_is_room() -> None:
    """A thousand jobs with room for a hundred thousand are counted once."""
    bench = Bench()
    for _ in range(1000):
        bench.enter(100_000)
    assert bench.counted == 1


def test_a_count_is_not_good_for_long() -> None:
    """What others have added meanwhile is seen after a second."""
    bench = Bench()
    bench.enter(100_000)
    bench.jobs = 100_000
    bench.now += 1
    with pytest.raises(TooManyRequestsError):
        bench.enter(100_000)


def test_a_refusal_is_remembered_for_a_moment() -> None:
    """Refusing many is cheap; room that others made is seen after 0.1 s, and room made here at once."""
    bench = Bench(jobs=10)
    for _ in range(100):
        with pytest.raises(TooManyRequestsError):
            bench.enter(10)
    assert bench.counted == 1
    bench.jobs = 9
    bench.now += 0.1
    bench.enter(10)
    with pytest.raises(TooManyRequestsError):
        bench.enter(10)
    bench.jobs = 9
    bench.room.freed()
    bench.enter(10)
