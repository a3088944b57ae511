"""uvicorn's WebSocket protocol with a bound on readers that stop.

uvicorn waits for the client before it sends on, and the application gives up waiting; but the connection it then closes
stays open until its last bytes are taken, which may be never.
"""

from asyncio import BaseTransport
from typing import ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asgipipe.servers.protocol import ProtocolLimits
from asgipipe.servers.stall import Stall


def bounded_websocket(limits: ProtocolLimits) -> type["BoundedWebSocket"]:
    """Return the protocol class for `uvicorn.Config(ws=...)` that keeps `limits`."""
    return type("BoundedWebSocket", (BoundedWebSocket,), {"limits": limits})


class BoundedWebSocket(WebSocketsSansIOProtocol):
    limits: ClassVar[ProtocolLimits]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._stall = Stall(self.transport, self.loop, self.limits.send_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stall.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall.end()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.disconnected and self.transport.get_write_buffer_size():
            self._stall.begin()  # less than would pause writing, and yet nobody may take it
