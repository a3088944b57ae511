"""Samples, and what is said about several of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.benchmarks.contenders import CAPTURING, CONTENDERS, ENDPOINTS, FRAMEWORKS, REFERENCE, WORKLOADS, ours


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


def ratio(samples: Sequence[Sample], contender: str, figure: Figure, beside: str | None = None) -> Spread | None:
    """Summarise the figure as a ratio to that of `beside` in the same round; None when that was not measured."""
    other = beside or CONTENDERS[contender].beside
    base = {sample.round: figure(sample) for sample in samples if sample.contender == other}
    pairs = [(figure(sample), base.get(sample.round)) for sample in samples if sample.contender == contender]
    ratios = [value / divisor for value, divisor in pairs if divisor]
    return Spread.of(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Goal:
    """What asgipipe wants to reach, as a ratio to the contender `beside`."""

    what: str
    figure: Figure
    bound: float
    beside: str
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def _rate(sample: Sample) -> float:
    return sample.requests_per_second


def _memory(sample: Sample) -> float:
    return sample.resident_bytes


def _startup(sample: Sample) -> float:
    return sample.startup


def _for_pipeline(framework: str, workload: str) -> tuple[Goal, ...]:
    """Return the goals beside the reference, and beside an application that has loaded the same framework."""
    return (
        Goal("requests/s", _rate, 0.95 if workload == "sync" else 1.0, REFERENCE, at_least=True),
        Goal("p99", lambda sample: sample.p99, 1.2, REFERENCE),
        Goal("memory", _memory, 1.3, REFERENCE),
        Goal("start-up", _startup, 2.0, REFERENCE),
        Goal("memory, by hand", _memory, 1.3, f"{framework}_hand"),
        Goal("start-up, by hand", _startup, 2.0, f"{framework}_hand"),
    )


GOALS: Final[dict[str, tuple[Goal, ...]]] = {
    **{ours(name, kind): _for_pipeline(name, kind) for name in FRAMEWORKS for kind in WORKLOADS},
    **{
        contender.name: (Goal("requests/s", _rate, 1.0, contender.beside, at_least=True),)
        for contender in ENDPOINTS.values()
        if contender.runner
    },
    **{
        name: (Goal("requests/s", _rate, 0.85, REFERENCE, at_least=True),)
        for name in CAPTURING
        if name.endswith(("_realtime", "_metadata"))
    },
}
