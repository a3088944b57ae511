"""Starting and stopping an ASGI application as servers do with `lifespan=auto`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from asgipipe.http.types import ASGIApp, Message
from asgipipe.testing.client import PATIENCE


class StartFailedError(Exception):
    """The application said that its start failed; a server would end with a status that is not 0."""


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[dict[str, object]]:
    """Run the lifespan of `app` around the block, if it has one; gives the state that requests share.

    Raises StartFailedError when it has and its start fails.
    """
    state: dict[str, object] = {}
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    task = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    try:
        supported = await _phase("startup", task, inbox, outbox)
        yield state
        if supported:
            await _phase("shutdown", task, inbox, outbox)
            await asyncio.wait_for(task, PATIENCE)
    finally:
        task.cancel()
        # An application without lifespan may raise anything to say so.
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _phase(
    name: str, task: "asyncio.Future[None]", inbox: "asyncio.Queue[Message]", outbox: "asyncio.Queue[Message]"
) -> bool:
    """Send one event; False when the application ended without a word, and so has no lifespan."""
    inbox.put_nowait({"type": f"lifespan.{name}"})
    answering = asyncio.ensure_future(outbox.get())
    try:
        await asyncio.wait((task, answering), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            assert task.done(), f"the application did not answer lifespan.{name}"
            return False
        message = answering.result()
    finally:
        answering.cancel()
    if message["type"] == f"lifespan.{name}.failed":
        raise StartFailedError(message.get("message", ""))
    assert message["type"] == f"lifespan.{name}.complete", message
    return True
