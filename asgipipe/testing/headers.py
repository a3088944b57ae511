"""The headers of the contract."""

from collections import Counter

from asgipipe.testing.client import Answer

SECURE = (
    "strict-transport-security",
    "x-frame-options",
    "x-content-type-options",
    "content-security-policy",
    "referrer-policy",
    "cache-control",
    "permissions-policy",
    "server",
    "x-request-id",
)
"""What every answer that the application makes carries once."""

MAY_REPEAT = frozenset({"set-cookie", "x-passed", "vary"})


def assert_once(answer: Answer) -> None:
    """Every header of the contract is there, and no header twice."""
    counts = Counter(name.lower() for name, _ in answer.headers)
    missing = [name for name in SECURE if not counts[name]]
    repeated = [name for name, count in counts.items() if count > 1 and name not in MAY_REPEAT]
    assert not missing, f"{missing} are not in {answer}"
    assert not repeated, f"{repeated} are repeated in {answer}"
