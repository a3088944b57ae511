"""One contender measured once, and all of them in interleaved rounds."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.answers import verify
from tests.benchmarks.results import Sample
from tests.benchmarks.server import Cores, Server, invoke, serving


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure; durations in whole seconds, which is what wrk takes."""

    rounds: int = 5
    seconds: int = 4
    warmup: int = 1
    connections: int = 64


def measure(names: Sequence[str], plan: Plan, cores: Cores, report: Callable[[Sample], None]) -> list[Sample]:
    """Measure every contender once per round (A B C, A B C, ...), so that a noisy minute meets all of them."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        script = load.write_script(Path(folder))
        for round_number in range(1, plan.rounds + 1):
            for name in names:
                sample = _measure_once(name, round_number, plan, cores, script)
                report(sample)
                samples.append(sample)
    return samples


def _measure_once(name: str, round_number: int, plan: Plan, cores: Cores, script: Path) -> Sample:
    with serving(name, cores) as server:
        load.run(name, server.port, script, seconds=plan.warmup, connections=plan.connections)
        cpu_before = server.cpu_seconds()
        result = load.run(name, server.port, script, seconds=plan.seconds, connections=plan.connections)
        cpu = server.cpu_seconds() - cpu_before
        resident = server.resident_bytes()
        _verify_still_right(server)
    return Sample(
        contender=name,
        round=round_number,
        requests=result.requests,
        requests_per_second=result.rate,
        cpu_per_request=cpu / result.requests,
        p50=result.p50,
        p99=result.p99,
        resident_bytes=resident,
        startup=server.startup,
    )


def _verify_still_right(server: Server) -> None:
    """Check the content again, as before the load: wrk itself only counts statuses from 400 on."""
    verify(server.name, *invoke(server.port))
