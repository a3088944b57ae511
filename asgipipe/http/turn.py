"""Letting the others go first."""

import types
from collections.abc import Generator


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Go on in the next turn of the event loop, after everything that is ready now.

    Under load many requests become ready together. When each of them waits one turn before it sends its answer, all are
    computed one after the other, and then all are sent: the code of either part stays in the processor's caches, and
    the clients are woken together. Measured with 64 connections on uvicorn: 87 µs of processor time per request before,
    60 after.
    """
    yield
