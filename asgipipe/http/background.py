"""Work that outlives the request it was begun for."""

import asyncio
import logging
from collections.abc import Coroutine

from asgipipe.pipelines.execution import summary_of

logger = logging.getLogger("asgipipe")


class Background:
    """Tasks that nobody waits for; what they raise goes to the log. An event loop holds its tasks weakly."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("work in the background failed: %s", summary_of(error))
