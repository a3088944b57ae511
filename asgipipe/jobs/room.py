"""The bound on pending jobs, without counting them all for each new one."""

import time
from collections.abc import Callable

from asgipipe.errors import TooManyRequestsError
from asgipipe.stores.database import Transaction

_SHARE = 64
_FRESH = 1.0
_REFUSAL = 0.1


class Room:
    """Lets new jobs in while fewer than the limit wait.

    A count is good for a while: this process may use up a 64th of the room that was found, within a second, before it
    counts again. So counts are seldom while there is room; near the limit every job is counted, and the limit is exact
    for one process. Each further one may exceed it by a 64th. No room is remembered for 0.1 s, so that refusing is
    cheap, too, or until `freed`.

    Used in write operations only, of which one is done at a time.
    """

    def __init__(self, deployment: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._deployment = deployment
        self._clock = clock
        self._left = 0
        self._until = clock()

    def take(self, transaction: Transaction, limit: int) -> None:
        """Raise TooManyRequestsError when `limit` jobs are pending."""
        now = self._clock()
        if now >= self._until:
            waiting = self._count(transaction, limit)
            self._left = -(-(limit - waiting) // _SHARE)
            self._until = now + (_FRESH if self._left else _REFUSAL)
        if not self._left:
            raise TooManyRequestsError
        self._left -= 1
        if not self._left:
            self._until = now

    def freed(self) -> None:
        if not self._left:
            self._until = self._clock()

    def _count(self, transaction: Transaction, limit: int) -> int:
        sql = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE deployment = ? AND state = 'pending' LIMIT ?) AS waiting"
        ((count,),) = transaction.rows(sql, self._deployment, limit)
        assert isinstance(count, int)
        return count
