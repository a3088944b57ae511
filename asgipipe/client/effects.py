"""What a call does to the world, as values: a flow yields them and is given what came of them.

A flow is a generator, so that it is written once: `sync.py` and `asynchronous.py` carry its effects out, each in its
own way, and know nothing else. What httpx raises is raised in the flow where it yielded.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and return the Head of its answer; an answer that is still open is given up.

    `timeout` is in seconds, for each time that something is waited for; None waits for ever.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    body: bytes | None = field(repr=False)
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """Return the next piece of the open answer's body; at its end, None."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give(Generic[T]):
    """Hand a value to whoever iterates."""

    value: T


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]


Effect = Send | Read | Pause
Outcome = Head | bytes | None

Flow = Generator[Effect, Outcome, T]
"""A call that returns a T."""

Stream = Generator[Effect | Give[T], Outcome, None]
"""A call that gives many."""


def send(request: Send) -> Flow[Head]:
    head = yield request
    assert isinstance(head, Head)
    return head


def read() -> Flow[bytes | None]:
    piece = yield Read()
    assert not isinstance(piece, Head)
    return piece


def pause(seconds: float) -> Flow[None]:
    if seconds > 0:
        yield Pause(seconds)


class Running(Generic[T]):
    """A flow under way, for whoever carries its effects out: they set `outcome` or `error` before the next step."""

    def __init__(self, flow: "Flow[T] | Stream[T]") -> None:
        self._flow = flow
        self._result: T | None = None
        self.outcome: Outcome = None
        self.error: Exception | None = None

    def step(self) -> "Effect | Give[T] | None":
        """Return what is to be done next; None at the end."""
        outcome, error = self.outcome, self.error
        self.outcome = self.error = None
        try:
            return self._flow.send(outcome) if error is None else self._flow.throw(error)
        except StopIteration as end:
            self._result = end.value
            return None

    @property
    def result(self) -> T:
        return cast("T", self._result)

    def close(self) -> None:
        self._flow.close()
