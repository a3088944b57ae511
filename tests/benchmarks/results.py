"""Samples, and what is said about several of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.benchmarks.contenders import REFERENCE


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one round, served by a fresh process; times in seconds."""

    contender: str
    round: int
    requests: int
    requests_per_second: float
    cpu_per_request: float
    p50: float
    p99: float
    resident_bytes: int
    startup: float


Figure = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several values, and how far apart they were."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = sorted(values)
        return cls(median(found), found[0], found[-1])


def spread(samples: Sequence[Sample], contender: str, figure: Figure) -> Spread:
    """Summarise one figure of one contender over the rounds."""
    return Spread.of(figure(sample) for sample in samples if sample.contender == contender)


def ratio(samples: Sequence[Sample], contender: str, figure: Figure) -> Spread | None:
    """Summarise the figure as a ratio to the reference's of the same round; None when that was not measured."""
    base = {sample.round: figure(sample) for sample in samples if sample.contender == REFERENCE}
    pairs = [(figure(sample), base.get(sample.round)) for sample in samples if sample.contender == contender]
    ratios = [value / reference for value, reference in pairs if reference]
    return Spread.of(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Goal:
    """What asgipipe wants to reach, as a ratio to the reference."""

    what: str
    figure: Figure
    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


def _throughput(bound: float) -> Goal:
    return Goal("requests/s", lambda sample: sample.requests_per_second, bound, at_least=True)


_FOR_ALL: Final = (
    Goal("p99", lambda sample: sample.p99, 1.2),
    Goal("memory", lambda sample: sample.resident_bytes, 1.3),
    Goal("start-up", lambda sample: sample.startup, 2.0),
)

GOALS: Final[dict[str, tuple[Goal, ...]]] = {
    "asgipipe_async": (_throughput(1.0), *_FOR_ALL),
    "asgipipe_nonblocking": (_throughput(1.0), *_FOR_ALL),
    "asgipipe_sync": (_throughput(0.95), *_FOR_ALL),
}
