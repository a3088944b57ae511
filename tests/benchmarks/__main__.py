"""`python -m tests.benchmarks`: the tables over real sockets. Installs nothing; Linux with wrk and two cores."""

# ruff: noqa: T201 (a command prints)

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.answers import WrongAnswerError
from tests.benchmarks.contenders import CAPTURING, ENDPOINTS, PIPELINES, Contender
from tests.benchmarks.machine import facts, load_generator
from tests.benchmarks.measure import Plan, measure
from tests.benchmarks.report import MarkerError, facts_list, goals_table, parts_around, sockets_table, write_between
from tests.benchmarks.results import Sample
from tests.benchmarks.server import BenchmarkError, Cores

DEFAULT: Final = Plan()
QUICK: Final = Plan(rounds=1, seconds=0.5, warmup=0.2)


@dataclass(frozen=True, slots=True)
class Suite:
    """Contenders that share a table; `name` is also that of its place in the document.

    `beside` says in the table's head what ratios are taken to.
    """

    name: str
    contenders: Mapping[str, Contender]
    beside: str


SUITES: Final = (
    Suite("pipelines", PIPELINES, "`reference`"),
    Suite("endpoints", ENDPOINTS, "the one by hand"),
    Suite("capture", CAPTURING, "`reference`"),
)
NAMES: Final = {**PIPELINES, **ENDPOINTS, **CAPTURING}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    cores = Cores.choose()
    suites = [_chosen(suite, options.only) for suite in SUITES if suite.name in options.suites]
    skipped = [_skipped(one) for suite in suites for one in suite.contenders.values() if not one.available]
    _warn(cores, skipped)
    try:
        for suite in suites:
            if options.write:
                parts_around(options.write, suite.name)  # before minutes are spent
        samples = {suite.name: measure(_available(suite), plan, cores, _progress) for suite in suites}
        for suite in suites:
            _publish(suite, samples[suite.name], _run(plan, cores, skipped), options.write)
    except (BenchmarkError, WrongAnswerError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(_json([one for taken in samples.values() for one in taken], plan, skipped))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 round of 0.5 s: a look, not a measurement")
    parser.add_argument("--rounds", type=int, help=f"default {DEFAULT.rounds}")
    parser.add_argument("--seconds", type=float, help=f"length of a run, default {DEFAULT.seconds}")
    parser.add_argument("--connections", type=int, default=DEFAULT.connections, help="default %(default)s")
    names = [suite.name for suite in SUITES]
    parser.add_argument("--suites", nargs="+", choices=names, default=names, metavar="SUITE", help=", ".join(names))
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into docs/performance.md")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    base = QUICK if options.quick else DEFAULT
    return dataclasses.replace(
        base,
        rounds=options.rounds or base.rounds,
        seconds=options.seconds or base.seconds,
        connections=options.connections,
    )


def _chosen(suite: Suite, only: Iterable[str] | None) -> Suite:
    if only is None:
        return suite
    chosen = {name: one for name, one in suite.contenders.items() if name in only}
    return dataclasses.replace(suite, contenders=chosen)


def _available(suite: Suite) -> dict[str, Contender]:
    return {name: one for name, one in suite.contenders.items() if one.available}


def _skipped(contender: Contender) -> str:
    return f"`{contender.name}` ({contender.framework} is not installed)"


def _warn(cores: Cores, skipped: Sequence[str]) -> None:
    if cores.shared:
        print("warning: server and load share the only core; the figures mean little", file=sys.stderr)
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"warning: the machine is busy (load average {busy:.1f}); the spread will be wide", file=sys.stderr)
    for entry in skipped:
        print(f"skipped: {entry}", file=sys.stderr)


def _progress(sample: Sample) -> None:
    rate, p99 = sample.requests_per_second, sample.p99 * 1e3
    print(f"round {sample.round}  {sample.contender:<36}{rate:>9,.0f} requests/s  p99 {p99:.2f} ms", file=sys.stderr)


def _publish(suite: Suite, samples: Sequence[Sample], run: Mapping[str, str], file: Path | None) -> None:
    parts = (sockets_table(samples, suite.beside), goals_table(samples), facts_list(facts(), **run))
    text = "\n\n".join(part for part in parts if part)
    print(text)
    if file and samples:
        write_between(file, suite.name, text)


def _run(plan: Plan, cores: Cores, skipped: Sequence[str]) -> dict[str, str]:
    pinned = "on one shared core" if cores.shared else "on a core each"
    rounds = f"{plan.rounds} interleaved rounds of {plan.seconds:g} s"
    run = f"{rounds}, {plan.connections} connections, server and load {pinned}, {datetime.now(UTC):%Y-%m-%d}"
    more = {"Load generator": load_generator(), "Run": run}
    return {**more, "Skipped": ", ".join(skipped)} if skipped else more


def _json(samples: Sequence[Sample], plan: Plan, skipped: Sequence[str]) -> str:
    document = {
        "machine": {**facts(), "Load generator": load_generator()},
        "plan": dataclasses.asdict(plan),
        "skipped": list(skipped),
        "samples": [dataclasses.asdict(sample) for sample in samples],
    }
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
