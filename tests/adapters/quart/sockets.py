"""A WebSocket to an application in this process, driven message by message."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from asgipipe.http.types import ASGIApp, Message
from tests.conftest import PATIENCE
from tests.http.wire import Ask, websocket_scope


@dataclass
class Socket:
    inbox: "asyncio.Queue[Message]"
    outbox: "asyncio.Queue[Message]"
    task: "asyncio.Task[None]"

    async def send(self, text: str) -> None:
        await self.inbox.put({"type": "websocket.receive", "text": text})

    async def leave(self, code: int) -> None:
        await self.inbox.put({"type": "websocket.disconnect", "code": code})

    async def next(self) -> Message:
        return await asyncio.wait_for(self.outbox.get(), PATIENCE)


@asynccontextmanager
async def connected(
    app: ASGIApp, path: str, *headers: tuple[bytes, bytes], extensions: Sequence[str] = ()
) -> AsyncIterator[Socket]:
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {**websocket_scope(Ask(path=path, headers=headers), extensions=extensions), "scheme": "ws"}
    inbox.put_nowait({"type": "websocket.connect"})

    async def send(message: Message) -> None:
        await outbox.put(message)
        if message["type"] in {"websocket.close", "websocket.http.response.body"} and not message.get("more_body"):
            await inbox.put({"type": "websocket.disconnect", "code": message.get("code", 1006)})

    task = asyncio.ensure_future(asyncio.wait_for(app(scope, inbox.get, send), PATIENCE))
    yield Socket(inbox, outbox, task)
    await task
