from datetime import UTC, datetime

import pytest

from asgipipe.client.retry import Deadline, Retry, retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Friday, 02-Jan-26 03:04:35 GMT", 30.0),
        ("Fri Jan  2 03:04:15 2026", 10.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("1" * 40, None),
        ("", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    """Retry-After is seconds, or a date in one of the three forms of RFC 9110; anything else says nothing."""
    assert retry_after({"retry-after": value}, lambda: NOW) == expected


def test_pauses_grow_at_random() -> None:
    """A pause is a random part of what doubles with each attempt, up to a bound, after what the service asks for."""
    most, least = Retry(random=lambda: 1.0), Retry(random=lambda: 0.0)
    assert [most.pause(attempt) for attempt in (1, 2, 3, 7, 99)] == [0.25, 0.5, 1.0, 10.0, 10.0]
    assert least.pause(5) == 0.0
    assert (least.pause(1, 3.0), most.pause(1, 3.0)) == (3.0, 3.25)
    assert least.pause(1, 60.5) is None


def test_deadlines() -> None:
    """A deadline passes at its second, allows only pauses that end before it, and is none without seconds."""
    now = [10.0]
    deadline, none = Deadline(lambda: now[0], 5.0), Deadline(lambda: now[0], None)
    assert (deadline.left, deadline.passed, deadline.allows(4.9), deadline.allows(5.0)) == (5.0, False, True, False)
    now[0] = 15.0
    assert (deadline.left, deadline.passed, deadline.capped(3.0)) == (0.0, True, 0.0)
    assert (none.left, none.passed, none.allows(1e9), none.capped(3.0)) == (None, False, True, 3.0)
