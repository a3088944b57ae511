"""One contender measured once, and all of them in interleaved rounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks import load
from tests.benchmarks.contenders import Contender
from tests.benchmarks.results import Sample
from tests.benchmarks.server import Cores, ask, serving


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure; durations in seconds."""

    rounds: int = 3
    seconds: float = 1.5
    warmup: float = 0.5
    connections: int = 64


def measure(
    contenders: Mapping[str, Contender], plan: Plan, cores: Cores, report: Callable[[Sample], None]
) -> list[Sample]:
    """Measure every contender once per round (A B C, A B C, ...), so that a noisy minute meets all of them."""
    samples: list[Sample] = []
    for round_number in range(1, plan.rounds + 1):
        for contender in contenders.values():
            sample = _measure_once(contender, round_number, plan, cores)
            report(sample)
            samples.append(sample)
    return samples


def _measure_once(contender: Contender, round_number: int, plan: Plan, cores: Cores) -> Sample:
    with serving(contender, cores) as server:
        target = load.Target(contender.name, server.port, contender.task, plan.connections)
        load.run(target, plan.warmup)
        cpu_before = server.cpu_seconds()
        result = load.run(target, plan.seconds)
        cpu = server.cpu_seconds() - cpu_before
        resident = server.resident_bytes()
        # The content again, as before the load: wrk itself only counts statuses from 400 on.
        contender.task.verify(contender.name, *ask(server.port, contender.task))
    return Sample(
        contender=contender.name,
        round=round_number,
        requests=result.requests,
        requests_per_second=result.rate,
        cpu_per_request=cpu / result.requests,
        p50=result.p50,
        p99=result.p99,
        resident_bytes=resident,
        startup=server.startup,
    )
