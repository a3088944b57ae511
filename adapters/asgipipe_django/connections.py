"""Database connections in threads that Django does not know.

Django keeps a connection for each thread, and closes what is too old or broken with its signals around each of its own
requests. Threads of a deployment see no such request, so their connections would stay open for ever, or go stale.
"""

import logging

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import DatabaseError, close_old_connections, connections

from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.pipelines.executor import ThreadExecutor

logger = logging.getLogger("asgipipe")

_DUMMY = "django.db.backends.dummy"


def any_databases() -> bool:
    return any(database["ENGINE"] != _DUMMY for database in connections.settings.values())


def look_after(executor: ThreadExecutor) -> None:
    """Treat connections in the executor's threads around every call as Django does around every request."""
    if any_databases():
        executor.around_calls = _close_old
        executor.on_thread_end = _close_all


class RequestThread:
    """Gives asynchronous queries of a request a thread that ends with the request, and its connections with it.

    Without it asgiref runs them in one thread for the whole process, where nothing would ever close a stale connection.
    In a request that Django handles there is such a thread already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext() as context:
            try:
                await self._app(scope, receive, send)
            finally:
                if context in SyncToAsync.context_to_thread_executor:
                    await sync_to_async(_close_all)()


def _close_old() -> None:
    try:
        close_old_connections()
    except DatabaseError as error:
        logger.warning("a database connection could not be closed: %s", type(error).__name__)


def _close_all() -> None:
    try:
        connections.close_all()
    except DatabaseError as error:
        logger.warning("a database connection could not be closed: %s", type(error).__name__)
