"""A hook of gunicorn's that tells what its parent process holds when it is about to fork."""

import logging
import threading

logger = logging.getLogger("preload")


def count(_parent: object) -> None:
    logger.warning("threads before the fork: %d", threading.active_count())
