"""The event loop for deployments where the server has none.

Under WSGI an async view gets a fresh event loop for each request, while a deployment lives on one. So there is one
more, in a daemon thread, for all deployments of the process. It starts with the first request, which comes after every
fork, and ends with the process, after the deployments have been stopped.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync

from asgipipe.pipelines.execution import traceback_of
from asgipipe.runners.deployment import Deployment

logger = logging.getLogger("asgipipe")

T = TypeVar("T")


class BackgroundLoop:
    """One event loop in a thread; it stops the `deployments` it has served when the process's main thread ends."""

    def __init__(self) -> None:
        self.deployments: dict[int, Deployment] = {}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="asgipipe-loop", daemon=True).start()
        # `atexit` comes too late: from Python 3.12 on no thread can be started then, and sync hooks need one.
        threading.Thread(target=self._end_with_process, name="asgipipe-loop-end", daemon=False).start()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run `work` on the loop, with the context variables of the caller."""
        return copy_context().run(self._submit, work)

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        # The caller's thread waits for this loop. asgiref would send sync code of ours there, and from then on take
        # this loop for the one of that thread: its next request would wait for itself.
        AsyncToSync.executors.current = None
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def _end_with_process(self) -> None:
        threading.main_thread().join()
        self.submit(self._stop()).result()
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _stop(self) -> None:
        for deployment in reversed(self.deployments.values()):
            try:
                await deployment.stop()
            except Exception as error:  # boundary: hooks are user code; the next deployment is stopped all the same
                logger.error("the deployment %s did not stop cleanly\n%s", deployment.name, traceback_of(error))


_loops: dict[int, BackgroundLoop] = {}
"""By process id: threads do not survive a fork, so a loop is of use in its own process only."""
_starting = threading.Lock()


def loop_for(deployment: Deployment) -> BackgroundLoop:
    """Return the loop of this process, which it starts where there is none, for a request to `deployment`."""
    found = _loops.get(os.getpid())
    if found is None or id(deployment) not in found.deployments:
        with _starting:
            found = _loops.setdefault(os.getpid(), _loops.get(os.getpid()) or BackgroundLoop())
            found.deployments[id(deployment)] = deployment
    return found


os.register_at_fork(after_in_child=lambda: globals().update(_starting=threading.Lock()))
