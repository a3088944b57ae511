"""How many jobs there are in all, for the head of a list, without counting very many for each page."""

import time
from collections.abc import Callable

_MANY = 10_000
_SHARE = 20


class Totals:
    """Counts as often as that is cheap: up to 10,000 each time.

    A larger count is good for 20 times as long as it took, so that lists spend a twentieth of their time on counting,
    however many jobs are kept: 3 seconds for a million, say. May be called on any thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str | None, tuple[float, int]] = {}

    def of(self, name: str | None, count: Callable[[], int]) -> int:
        """Return what `count` returns, or returned for that name a little while ago."""
        began = self._clock()
        until, total = self._known.get(name, (began, 0))
        if began < until:
            return total
        total = count()
        if total > _MANY:
            now = self._clock()
            self._known[name] = now + _SHARE * (now - began), total
        return total
