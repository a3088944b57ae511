"""How a client wants its run: waited for, accepted as a job, or streamed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from asgipipe.http.negotiation import chosen, field, prefers
from asgipipe.http.query import Query
from asgipipe.http.types import Scope

PRIORITY = 100
"""The highest `priority`; the lowest is its negative."""

LONGEST_DELAY = 31_536_000
"""Seconds that a job can be put off: a year."""

MOST_ATTEMPTS = 1000

RESPOND_ASYNC = "respond-async"
VARY = (b"vary", b"Accept, Prefer")
APPLIED = (b"preference-applied", RESPOND_ASYNC.encode())

# What clients send that have nothing special in mind: it need not be parsed.
_USUAL = frozenset((None, b"*/*", b"application/json", b"application/json, text/plain, */*"))
# JSON comes first, so that a stream is what is asked for by its name and before anything else.
_OFFERS = {False: ("application/json", "application/*", "*/*"), True: ("text/event-stream",)}


class Mode(StrEnum):
    SYNC = "sync"
    ASYNC = "async"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Manner:
    """How one run is wanted; `preferred` says that `Prefer: respond-async` was honoured.

    `priority`, `delay` (seconds) and `max_attempts` are for jobs that nobody waits for.
    """

    mode: Mode = Mode.SYNC
    preferred: bool = False
    priority: int = 0
    delay: float = 0.0
    max_attempts: int | None = None


def is_plain(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a request can only want a run that is waited for, without parsing anything."""
    return not scope["query_string"] and b"prefer" not in headers and headers.get(b"accept") in _USUAL


def manner_of(scope: Scope) -> Manner:
    """Return how a run is wanted: the query wins over `Accept`, and that over `Prefer`. Raises BadRequestError."""
    query = Query(scope)
    asynchronous = prefers(field(scope, b"prefer"), RESPOND_ASYNC)
    mode = query.choice("mode", Mode)
    if mode is None and chosen(field(scope, b"accept"), _OFFERS):
        mode = Mode.STREAM
    if mode is None:
        mode = Mode.ASYNC if asynchronous else Mode.SYNC
    priority = query.integer("priority", -PRIORITY, PRIORITY) or 0
    delay = query.seconds("delay", LONGEST_DELAY) or 0.0
    max_attempts = query.integer("max_attempts", 1, MOST_ATTEMPTS)
    if mode is not Mode.ASYNC:
        return Manner(mode)
    return Manner(mode, preferred=asynchronous, priority=priority, delay=delay, max_attempts=max_attempts)
