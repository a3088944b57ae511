"""Deployments under prefixes of a host: any ASGI application, whatever framework it is made with."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType

from asgipipe.errors import DefinitionError, UserError
from asgipipe.http.application import Application
from asgipipe.http.exchange import below, local_path
from asgipipe.http.lifecycle import Lifecycle
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.pipelines.execution import message_of, traceback_of

logger = logging.getLogger("asgipipe")


def checked_prefix(prefix: str) -> str:
    """Return `prefix` without the slash at its end. Raises DefinitionError unless it is a path such as /weather."""
    stripped = prefix.rstrip("/")
    if not stripped.startswith("/") or "//" in stripped or set("{}<>?#") & set(stripped):
        raise DefinitionError(f"{prefix!r} is no place to mount a deployment at; give a path such as '/weather'")
    return stripped


def child_scope(scope: Scope, prefix: str, local: str) -> Scope:
    """Return the scope of what is mounted at `prefix`, for the path `local` below it.

    Its paths are complete, as ASGI has them; some servers leave `root_path` out of `path`.
    """
    root = scope.get("root_path", "").rstrip("/") + prefix
    return {**scope, "root_path": root, "path": root + local}


class Mounts:
    """The ASGI application of a host with deployments at prefixes of it.

    Deployments start after the host and stop before it, so they may use what the host opens. A host that knows nothing
    of lifespan events, as Django, does not keep them from starting with the server. Raises DefinitionError as `mount`.
    """

    def __init__(self, host: ASGIApp, mounts: Mapping[str, Application] = MappingProxyType({})) -> None:
        self.host = host
        self._places: dict[str, Application | None] = {}
        self._lifecycles: list[Lifecycle] = []
        for prefix, application in mounts.items():
            self.mount(prefix, application)

    def mount(self, prefix: str, application: Application) -> None:
        """Serve `application` at `prefix`. Raises DefinitionError for a prefix that is no path, or taken."""
        checked = checked_prefix(prefix)
        if checked in self._places:
            raise DefinitionError(f"two deployments at one prefix: {prefix}")
        self._place(checked, application, application.lifecycle)

    def include(self, prefix: str, lifecycle: Lifecycle) -> None:
        """Start `lifecycle` with the others, and leave `prefix` to the host, whose own routes serve it there.

        Raises DefinitionError for a prefix that is no path, or that of a mount.
        """
        checked = checked_prefix(prefix)
        if self._places.get(checked) is not None:
            raise DefinitionError(f"two deployments at one prefix: {prefix}")
        self._place(checked, None, lifecycle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _HostLifespan(self, scope, receive, send).run()
            return
        path = local_path(scope)
        for prefix, application in self._places.items():
            local = below(path, prefix)
            if local is not None:
                if application is None:
                    break
                await application(child_scope(scope, prefix, local), receive, send)
                return
        await self.host(scope, receive, send)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start every deployment in the order they came; `stack` stops them in reverse. Raises what a start raises."""
        for lifecycle in self._lifecycles:
            await lifecycle.start()
            stack.push_async_callback(lifecycle.stop)

    def _place(self, prefix: str, application: Application | None, lifecycle: Lifecycle) -> None:
        self._lifecycles.append(lifecycle)
        # A prefix may lie below another one: the longest is asked first.
        places = {**self._places, prefix: application}
        self._places = dict(sorted(places.items(), key=lambda place: -len(place[0])))


class _HostLifespan:
    """Passes the server's lifespan events on to the host, with our own start and stop in between."""

    def __init__(self, mounts: Mounts, scope: Scope, receive: Receive, send: Send) -> None:
        self._mounts = mounts
        self._scope = scope
        self._receive_from_server = receive
        self._send_to_server = send
        self._stack = AsyncExitStack()
        self._begun = False
        self._host_answered = False
        self._failure: Message | None = None

    async def run(self) -> None:
        try:
            await self._mounts.host(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException:  # boundary: the specification lets an application without lifespan raise anything
            if self._host_answered:
                raise
        if not self._host_answered:
            await self._without_host()

    async def _receive(self) -> Message:
        if self._failure is not None:
            return {"type": "lifespan.shutdown"}
        message = await self._receive_from_server()
        self._begun = True
        if message["type"] == "lifespan.shutdown":
            await self._stop()
        return message

    async def _send(self, message: Message) -> None:
        self._host_answered = True
        if message["type"] == "lifespan.startup.complete":
            message = await self._start()
        elif self._failure is not None:
            return  # the server was told that the start failed; the host's own end is nothing more to it
        await self._send_to_server(message)

    async def _without_host(self) -> None:
        if not self._begun:  # Django refuses the scope before it has received anything
            await self._receive_from_server()
        started = await self._start()
        await self._send_to_server(started)
        if self._failure is None:
            await self._receive_from_server()
            await self._stop()
            await self._send_to_server({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> Message:
        try:
            await self._mounts.start(self._stack)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: hooks are user code; the server is told, whatever they raise
            if not isinstance(error, UserError):
                logger.error("a deployment did not start\n%s", traceback_of(error))
            self._failure = {"type": "lifespan.startup.failed", "message": message_of(error)}
            await self._stop()
            return self._failure
        return {"type": "lifespan.startup.complete"}

    async def _stop(self) -> None:
        try:
            await self._stack.aclose()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: one that does not stop keeps neither the host nor others from it
            logger.error("a deployment did not stop cleanly\n%s", traceback_of(error))
