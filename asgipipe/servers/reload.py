"""Noticing that source files changed, for `--reload`."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from watchfiles import Change, PythonFilter, watch

logger = logging.getLogger("asgipipe.servers")


@contextlib.contextmanager
def watched_changes(places: Sequence[Path], on_change: Callable[[], None]) -> Iterator[None]:
    """Call `on_change`, from a thread, after Python files below the folders of `places`, or its files, have changed."""
    files = {place for place in places if not place.is_dir()}
    # A file is watched through its folder: editors replace files, which ends a watch on the file itself.
    folders = {place if place.is_dir() else place.parent for place in places}
    python = PythonFilter()
    stop = threading.Event()

    def wanted(change: Change, path: str) -> bool:
        return Path(path) in files or python(change, path)

    def look() -> None:
        for changes in watch(*folders, watch_filter=wanted, stop_event=stop, ignore_permission_denied=True):
            logger.info("changed: %s", ", ".join(sorted(path for _, path in changes))[:500])
            on_change()

    thread = threading.Thread(target=look, name="asgipipe-reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)
