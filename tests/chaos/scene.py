"""Everything that things are done to: the servers, and that of the database."""

import math
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.fleet import Member
from tests.chaos.plan import DATABASE, Action, Deed
from tests.postgresql import PostgreSQLServer


@dataclass
class Scene:
    """What things are done to; `frozen` says until when it is."""

    members: Sequence[Member]
    database: PostgreSQLServer | None
    frozen: dict[Member | PostgreSQLServer, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    done: Counter[Deed] = field(default_factory=Counter)

    def do(self, action: Action, now: float) -> None:
        self.done[action.deed] += 1
        if action.deed in DATABASE:
            self._to_database(action, now)
        else:
            self._to_member(action, self.members[action.target], now)

    def _to_member(self, action: Action, member: Member, now: float) -> None:
        if action.deed is Deed.FREEZE:
            member.freeze()
            self.frozen[member] = now + action.lasts
        elif action.deed is Deed.STOP:
            member.stop()
        else:
            self.frozen.pop(member, None)
            member.kill()

    def _to_database(self, action: Action, now: float) -> None:
        assert self.database is not None
        if action.deed is Deed.DATABASE_FREEZE:
            self.database.freeze()
            self.frozen[self.database] = now + action.lasts
            return
        self.frozen.pop(self.database, None)
        self.database.stop(signal.SIGQUIT if action.deed is Deed.DATABASE_CRASH else signal.SIGINT)
        self.database.start()

    def thaw(self, now: float) -> None:
        """Let go on what was frozen for long enough."""
        for each in [each for each, until in self.frozen.items() if until <= now]:
            del self.frozen[each]
            each.thaw()

    def settle(self) -> None:
        """Let everything go on, and return when every server runs that was told to stop."""
        self.thaw(math.inf)
        while any(member.stopping for member in self.members):
            self.revive()
            time.sleep(0.05)

    def revive(self) -> None:
        self.faults += [fault for member in self.members if (fault := member.revive())]
