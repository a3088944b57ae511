"""Deadlines of many runs with one timer.

A timer per run costs 2 to 4 µs, and almost none ever fires. Here a run writes down its deadline, and the event loop is
asked to wake up for the earliest one only.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from asgipipe.pipelines.context import Run


class Deadlines:
    """Calls `expire` with every one of `open_runs` whose deadline passed; belongs to the event loop's thread.

    `next` is the earliest deadline that is waited for, in seconds of `clock`.
    """

    def __init__(
        self,
        open_runs: Callable[[], Iterable[Run]],
        expire: Callable[[Run], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._open_runs = open_runs
        self._expire = expire
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.next = float("inf")

    def arm(self, deadline: float) -> None:
        """Wake up at `deadline`; needed when a run's deadline is earlier than `next`."""
        self.close()
        self.next = deadline
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def close(self) -> None:
        """Give up the timer; deadlines no longer act."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.next = float("inf")

    def _wake(self) -> None:
        self.close()
        now = self._clock()
        waiting = []
        for run in tuple(self._open_runs()):
            if run.deadline is None:
                continue
            if run.deadline <= now:
                run.deadline = None
                self._expire(run)
            else:
                waiting.append(run.deadline)
        if waiting:
            self.arm(min(waiting))
