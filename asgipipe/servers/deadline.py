"""The last resort of a process that was told to end and does not: a thread never returns, the event loop is blocked."""

import logging
import os
import threading
from types import TracebackType
from typing import Self

logger = logging.getLogger("asgipipe.servers")


class Guard:
    """Ends the process when it takes too long to end by itself; leaving the `with` block calls that off."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call_off()

    def call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end_within(self, seconds: float) -> None:
        """End the process with status 1 when it still runs after `seconds`; a later call replaces an earlier one."""
        self.call_off()
        self._timer = end_within(seconds)


def end_within(seconds: float) -> threading.Timer:
    """End the process with status 1 when it still runs after `seconds`."""
    timer = threading.Timer(seconds, _end)
    timer.name = "asgipipe-deadline"
    timer.daemon = True
    timer.start()
    return timer


def _end() -> None:
    me = threading.current_thread()
    names = [thread.name for thread in threading.enumerate() if thread is not me and not thread.daemon]
    logger.error("the process does not end by itself and is ended; threads that hold it: %s", ", ".join(names)[:500])
    logging.shutdown()
    os._exit(1)
