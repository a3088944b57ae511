"""What is done to servers, and when: the same seed gives the same plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Deed(StrEnum):
    KILL = "kill"
    STOP = "stop"
    FREEZE = "freeze"
    DATABASE_RESTART = "restart the database"
    DATABASE_CRASH = "crash the database"
    DATABASE_FREEZE = "freeze the database"


_SERVERS = (Deed.KILL, Deed.KILL, Deed.STOP, Deed.FREEZE)
DATABASE = (Deed.DATABASE_RESTART, Deed.DATABASE_CRASH, Deed.DATABASE_FREEZE)


@dataclass(frozen=True)
class Action:
    """One deed, `at` seconds after the start, to the server of number `target`; what is frozen is so for `lasts`."""

    at: float
    deed: Deed
    target: int
    lasts: float


def plan(seed: int, seconds: float, servers: int, *, database: bool) -> Iterator[Action]:
    """Yield actions in their order; with `database`, some of them are done to the database's server."""
    random = Random(seed)
    deeds = _SERVERS + (DATABASE if database else ())
    at = 0.5
    while at < seconds:
        yield Action(at, random.choice(deeds), random.randrange(servers), random.uniform(0.2, 2.5))
        at += random.uniform(0.3, 1.5)
