"""Identifiers that sort by time: UUID version 7 (RFC 9562, section 5.7)."""

import time
from collections.abc import Callable
from random import getrandbits
from uuid import UUID, uuid5

NAMESPACE = UUID("5f0e6e51-6c0c-5a3f-9c80-1f1a6ac0d3a7")
"""The namespace of identifiers that are derived from names (UUID version 5)."""

_VARIANT = 0b10 << 62


class UUID7Source:
    """Makes strictly increasing UUIDs, also when the clock is set back.

    The 12 bits after the milliseconds are a counter (RFC 9562, method 1 of section 6.2); when it is full, the timestamp
    runs ahead of the clock. `clock` gives nanoseconds since the epoch, `bits` that many random bits. The default random
    source is reseeded in a forked child, so two workers never share a sequence.
    """

    __slots__ = ("_bits", "_clock", "_count", "_milliseconds", "_prefix")

    def __init__(self, clock: Callable[[], int] = time.time_ns, bits: Callable[[int], int] = getrandbits) -> None:
        self._clock = clock
        self._bits = bits
        self._milliseconds = -1
        self._count = 0
        self._prefix = ""

    def __call__(self) -> str:
        now = self._clock() // 1_000_000
        if now > self._milliseconds:
            self._begin(now)
        elif self._count < 0xFFF:
            self._count += 1
        else:
            self._begin(self._milliseconds + 1)
        tail = f"{self._bits(62) | _VARIANT:016x}"
        return f"{self._prefix}{self._count:03x}-{tail[:4]}-{tail[4:]}"

    def _begin(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds
        self._count = 0
        text = f"{milliseconds:012x}"
        self._prefix = f"{text[:8]}-{text[8:]}-7"


uuid7 = UUID7Source()


def derived(*names: str) -> str:
    """Return the UUID that belongs to `names`: the same in every process and after every restart."""
    return str(uuid5(NAMESPACE, "\0".join(names)))
