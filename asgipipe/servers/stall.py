"""Readers that stop: nothing makes a client read, so what waits for it is given up after a time."""

import asyncio
import logging

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

# A reader must take this many bytes in the time it has; asyncio's own high-water mark, where writing is paused.
_PROGRESS = HIGH_WATER_LIMIT

logger = logging.getLogger("uvicorn.error")


class Stall:
    """Drops a connection whose client does not read; `timeout` is in seconds for 64 KiB, while that much waits."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout = timeout
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look, from now on, whether the client reads."""
        self.end()
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._timeout, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if self._unsent - unsent < _PROGRESS:
            logger.warning("A client that does not read was dropped after %g s.", self._timeout)
            self._transport.abort()
            return
        self._unsent = unsent
        self._timer = self._loop.call_later(self._timeout, self._look)
