"""What belongs to the whole process, and so to the host: an embedded deployment leaves it as it was."""

import locale
import logging
import os
import signal
import sys
import threading
import time
import warnings

import anyio.to_thread

from asgipipe.http.drain import handler_behind


def process_state() -> dict[str, object]:
    """Return what a deployment must not change; called on the event loop."""
    root = logging.getLogger()
    return {
        "signal handlers": [handler_behind(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "thread limiter": anyio.to_thread.current_default_thread_limiter().total_tokens,
        "root logger": (root.level, list(root.handlers)),
        "server loggers": [logging.getLogger(name).level for name in ("uvicorn", "gunicorn", "django", "quart.app")],
        "time zone": (time.tzname, os.environ.get("TZ")),
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": (sys.excepthook, threading.excepthook),
        "warning filters": len(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109  # the text is compared
    }
