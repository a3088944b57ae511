"""When a request is sent again, and how long one waits before it."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

PASSING = frozenset((408, 429, 502, 503, 504))
"""Statuses of a service that is busy or restarts, and of what stands before it meanwhile."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""What is raised before anything was sent: repeating it is safe for every request."""

HOPELESS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""What would be raised again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that may be repeated is sent again `times` times; times are in seconds.

    Before attempt n + 1 a random part of `first` x 2^n is waited, of `longest` at most, so that the clients of a
    service that comes back do not all come at once; and what the service asks for in Retry-After, unless that is more
    than `most_asked`: then it is told to the caller. `patience` is how long a job that is followed or waited for is
    asked for again after its deployment was lost.
    """

    times: int = 3
    first: float = 0.25
    longest: float = 10.0
    most_asked: float = 60.0
    patience: float = 60.0
    random: Callable[[], float] = field(default=random.random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def pause(self, attempt: int, asked: float | None = None) -> float | None:
        """Return the pause after `attempt`, which counts from 1; None when the service asks for too long a one."""
        if asked is not None and asked > self.most_asked:
            return None
        jitter = self.random() * min(self.longest, self.first * 2.0 ** min(attempt - 1, 32))
        return jitter if asked is None else asked + jitter


class Deadline:
    """The end of a call; without `seconds` there is none."""

    def __init__(self, clock: Callable[[], float], seconds: float | None) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end = None if seconds is None else clock() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until the end, never negative."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        return self._end is not None and self._clock() >= self._end

    def allows(self, pause: float) -> bool:
        left = self.left
        return left is None or pause < left

    def capped(self, seconds: float) -> float:
        left = self.left
        return seconds if left is None else min(seconds, left)

    def capped_by(self, seconds: float | None) -> float | None:
        """Return what is left, `seconds` at most."""
        return self.left if seconds is None else self.capped(seconds)


def retry_after(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Return the seconds that `Retry-After` asks for, as a number or an HTTP-date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= 12:
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, IndexError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - now()).total_seconds())
