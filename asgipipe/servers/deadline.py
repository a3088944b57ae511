"""The last resort of a process that was told to end and does not: a thread never returns, the event loop is blocked."""

import logging
import os
import threading

logger = logging.getLogger("asgipipe.servers")


def end_within(seconds: float) -> threading.Timer:
    """End this process with status 1 when it still runs after `seconds`; `cancel()` the timer to take that back."""
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()
    return timer


def _end() -> None:
    me = threading.current_thread()
    holding = [thread.name for thread in threading.enumerate() if thread is not me and not thread.daemon]
    logger.error("the process does not end by itself and is ended; threads still there: %s", ", ".join(holding)[:500])
    logging.shutdown()
    os._exit(1)
