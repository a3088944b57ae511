"""`python -m tests.benchmarks`: the table over real sockets. Installs nothing; Linux with wrk and two cores."""

# ruff: noqa: T201 (a command prints)

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.answers import WrongAnswerError
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.machine import facts, load_generator
from tests.benchmarks.measure import Plan, measure
from tests.benchmarks.report import MarkerError, facts_list, goals_table, parts_around, sockets_table, write_between
from tests.benchmarks.results import Sample
from tests.benchmarks.server import BenchmarkError, Cores

DEFAULT: Final = Plan()
QUICK: Final = Plan(rounds=2, seconds=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    available, skipped = _choose(options.only)
    cores = Cores.choose()
    _warn(cores, skipped)
    try:
        if options.write:
            parts_around(options.write, "sockets")  # before minutes are spent
        samples = measure(available, plan, cores, _progress)
        text = _document(samples, plan, cores, skipped)
        if options.write:
            write_between(options.write, "sockets", text)
    except (BenchmarkError, WrongAnswerError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    if options.json:
        options.json.write_text(_json(samples, plan, skipped))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: a look, not a measurement")
    parser.add_argument("--rounds", type=int, help=f"default {DEFAULT.rounds}")
    parser.add_argument("--seconds", type=int, help=f"length of a run, default {DEFAULT.seconds}")
    parser.add_argument("--connections", type=int, default=DEFAULT.connections, help="default %(default)s")
    parser.add_argument("--only", type=_names, metavar="A,B", help=f"some of {', '.join(CONTENDERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into docs/performance.md")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise argparse.ArgumentTypeError(f"there is no contender {', '.join(unknown)}")
    return names


def _plan(options: argparse.Namespace) -> Plan:
    base = QUICK if options.quick else DEFAULT
    return Plan(
        rounds=options.rounds or base.rounds,
        seconds=options.seconds or base.seconds,
        connections=options.connections,
    )


def _choose(only: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the names that can be measured and, with the reason, those that cannot."""
    chosen = [CONTENDERS[name] for name in only or CONTENDERS]
    available = [contender.name for contender in chosen if contender.available]
    skipped = [
        f"`{contender.name}` ({contender.requires} is not installed)" for contender in chosen if not contender.available
    ]
    return available, skipped


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
    print(f"round {sample.round}  {sample.contender:<22}{rate:>9,.0f} requests/s  p99 {p99:.2f} ms", file=sys.stderr)


def _document(samples: Sequence[Sample], plan: Plan, cores: Cores, skipped: Sequence[str]) -> str:
    pinned = "on one shared core" if cores.shared else "on a core each"
    rounds = f"{plan.rounds} interleaved rounds of {plan.seconds} s"
    run = f"{rounds}, {plan.connections} connections, server and load {pinned}, {datetime.now(UTC):%Y-%m-%d}"
    more = {"Load generator": load_generator(), "Run": run}
    if skipped:
        more["Skipped"] = ", ".join(skipped)
    parts = (sockets_table(samples), goals_table(samples), facts_list(facts(), **more))
    return "\n\n".join(part for part in parts if part)


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
