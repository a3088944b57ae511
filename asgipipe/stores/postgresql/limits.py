"""How long things may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    connecting: int = 3
    """Until a server that does not answer is given up; libpq counts whole seconds, from 2 on."""

    silence: float = 5.0
    """Until a connection on which an answer is awaited is given up, and its backend ended."""

    statement: float = 4.0
    """What the server gives a statement; less than `silence`, so that one too slow does not cost the connection."""

    lock: float = 2.0
    """What the server gives the wait for a lock."""

    idle: float = 5.0
    """What the server gives a transaction between two statements: a frozen process must not hold locks for long."""

    operation: float = 8.0
    """Until an operation that fails is not tried again."""

    migration: float = 60.0
    """What a change of the tables may take, and the wait for another process that changes them."""

    look: float = 1.0
    """Between two looks at whether the connection that listens still hears."""

    renewal: float = 2.0
    """Between two signs of life of a worker."""

    lifetime: float = 10.0
    """After its last sign of life a worker is dead, for ever."""
