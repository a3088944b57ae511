"""Forgetting what is old, a little at a time."""

import asyncio
import logging
from random import uniform
from time import time

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.jobs.store import JobStore

logger = logging.getLogger("asgipipe")

_CHUNK = 500
"""Rows that are removed in one transaction: what takes long keeps others waiting."""
_BREATH = 0.2
"""Seconds between two of them."""


async def forget_old(store: JobStore, retention: float | None, *, interval: float = 60.0) -> None:
    """Remove finished jobs after `retention` seconds (None: never), and keys that expired, or whose worker died.

    It begins every `interval` seconds or so, until it is cancelled: the processes that share a store do not all come at
    once.
    """
    pause = _about(interval)
    while True:
        await asyncio.sleep(pause)
        try:
            pause = _BREATH if await _prune(store, retention) >= _CHUNK else _about(interval)
        except (UnavailableError, StorageFullError) as error:
            logger.debug("old jobs cannot be removed now: %s", error)
            pause = _about(interval)
        except Exception:  # boundary: whatever it is, the store must not grow for ever
            logger.exception("old jobs cannot be removed, which is tried again")
            pause = _about(interval)


async def _prune(store: JobStore, retention: float | None) -> int:
    await store.release_keys_of_dead()
    now = time()
    return await store.prune(jobs_before=None if retention is None else now - retention, keys_before=now, limit=_CHUNK)


def _about(seconds: float) -> float:
    return uniform(0.5, 1.5) * seconds  # noqa: S311  # no secret
