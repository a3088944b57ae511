import signal

import pytest

from asgipipe.servers.fleet import Fleet
from asgipipe.servers.worker import STARTUP_FAILURE


class Watched:
    """A fleet of two, whose workers are known by letters; `reason` is what a failed start left."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.ready = 0
        self.fleet = Fleet[str](2, failure=lambda: self.reason, on_ready=self._on_ready)

    def _on_ready(self) -> None:
        self.ready += 1

    def start(self, *workers: str) -> None:
        """Start all that are due; they must be as many as `workers`."""
        assert self.fleet.due() == len(workers)
        for worker in workers:
            self.fleet.started(worker)

    def serve(self, *workers: str) -> None:
        for worker in workers:
            self.fleet.became_ready(worker)


@pytest.fixture
def started() -> Watched:
    watched = Watched()
    watched.start("a", "b")
    return watched


@pytest.fixture
def serving(started: Watched) -> Watched:
    started.serve("a", "b")
    return started


def test_it_is_ready_once_when_all_serve(started: Watched) -> None:
    """One worker of two is not enough, and one that is replaced later says nothing new."""
    started.serve("a")
    assert started.ready == 0
    started.serve("b")
    started.fleet.ended("a", 1, -9)
    started.start("c")
    started.serve("c")
    assert started.ready == 1


def test_a_failure_before_anything_was_served_ends_everything(started: Watched) -> None:
    """The reason is what the worker left, else its status."""
    started.reason = "no model file"
    started.fleet.ended("a", 1, STARTUP_FAILURE)
    assert started.fleet.error == "no model file"
    assert started.fleet.status == STARTUP_FAILURE


def test_one_that_was_killed_while_others_start_is_replaced(started: Watched) -> None:
    """It had started well: nothing is wrong with what is served."""
    started.serve("a")
    started.fleet.ended("a", 1, -9)
    assert started.fleet.error is None
    started.start("c")
    started.serve("b", "c")
    assert started.ready == 1


def test_the_first_of_several_failures_is_the_reason(started: Watched) -> None:
    """Workers that failed together are looked at one after the other, and only the first finds a reason left."""
    started.reason = "no model file"
    started.fleet.ended("a", 1, STARTUP_FAILURE)
    started.reason = None
    started.fleet.ended("b", 2, STARTUP_FAILURE)
    assert started.fleet.error == "no model file"


def test_one_that_keeps_dying_is_replaced_later_and_later(serving: Watched) -> None:
    """The first is replaced at once, the next one that does not even serve after a pause."""
    serving.fleet.ended("a", 1, -11)
    serving.start("c")
    serving.fleet.ended("c", 1, -11)
    assert serving.fleet.due() == 0
    assert (serving.fleet.next_start or 0) > 0


def test_without_one_that_works_a_failing_start_ends_everything(serving: Watched) -> None:
    """As long as another worker serves, it goes on."""
    serving.fleet.ended("a", 1, -9)
    serving.start("c")
    serving.fleet.ended("c", 1, STARTUP_FAILURE)
    assert serving.fleet.error is None
    serving.fleet.ended("b", 1, STARTUP_FAILURE)
    assert serving.fleet.error is not None


def test_the_old_leave_when_all_new_ones_serve(serving: Watched) -> None:
    """A reload starts a whole new generation, and nobody leaves before it is complete."""
    serving.fleet.reload()
    serving.start("c", "d")
    serving.serve("c")
    assert serving.fleet.dismissed() == []
    serving.serve("d")
    assert serving.fleet.dismissed() == [("a", True), ("b", True)]
    serving.fleet.ended("a", 1, 0)
    serving.fleet.ended("b", 1, 0)
    assert serving.fleet.due() == 0
    assert serving.fleet.next_start is None


def test_a_reload_that_fails_leaves_the_old_ones(serving: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the new generation leaves again, and the log says why."""
    serving.reason = "a misspelt setting"
    serving.fleet.reload()
    serving.start("c", "d")
    serving.fleet.ended("c", 1, STARTUP_FAILURE)
    assert serving.fleet.dismissed() == [("d", False)]
    serving.fleet.ended("d", 1, STARTUP_FAILURE)
    assert serving.fleet.due() == 0
    assert serving.fleet.error is None
    assert "a misspelt setting" in caplog.text


def test_a_worker_that_ended_is_not_told_to_leave(serving: Watched) -> None:
    """Two that fail in the same moment: the second is gone before it could be told."""
    serving.fleet.reload()
    serving.start("c", "d")
    serving.fleet.ended("c", 1, STARTUP_FAILURE)
    serving.fleet.ended("d", 1, STARTUP_FAILURE)
    assert serving.fleet.dismissed() == []


def test_reloads_asked_for_meanwhile_become_one(started: Watched) -> None:
    """Whatever was edited during a start or a reload is read by one more reload after it."""
    started.fleet.reload()
    assert started.fleet.due() == 0
    started.serve("a", "b")
    started.start("c", "d")
    started.fleet.reload()
    started.fleet.reload()
    started.serve("c", "d")
    started.start("e", "f")
    started.serve("e", "f")
    assert started.fleet.due() == 0
    assert [worker for worker, _ in started.fleet.dismissed()] == ["a", "b", "c", "d"]


def test_the_oldest_of_too_many_leave(serving: Watched) -> None:
    """A smaller number dismisses, a larger one starts."""
    serving.fleet.resize(1)
    assert serving.fleet.dismissed() == [("a", True)]
    serving.fleet.resize(3)
    assert serving.fleet.due() == 2


@pytest.mark.parametrize(("statuses", "expected"), [([0, 0], 0), ([0, 1], 1), ([-signal.SIGTERM, 0], 0), ([-9, 0], 1)])
def test_the_status_is_that_of_the_workers(serving: Watched, statuses: list[int], expected: int) -> None:
    """When it stops nobody is replaced, and one worker that was cut makes the end unclean."""
    serving.fleet.stop()
    for worker, status in zip("ab", statuses, strict=True):
        serving.fleet.ended(worker, 1, status)
    assert serving.fleet.due() == 0
    assert serving.fleet.status == expected
