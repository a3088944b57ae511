"""`python -m tests.benchmarks.past`: what a request costs after one past job, and after a million.

The past is written with SQL, as jobs and recorded runs would have left it. Both servers run at the same time and are
asked in turns, one request after the other.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import http.client
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks import workload
from tests.benchmarks.contenders import PIPELINES, ours
from tests.benchmarks.machine import facts
from tests.benchmarks.report import MarkerError, facts_list, parts_around, table, write_between
from tests.benchmarks.server import BenchmarkError, Cores, Server, serving
from tests.benchmarks.tasks import INVOKE

DEFAULT_PAST: Final = 1_000_000
BOUND: Final = 1.3
"""What a request may cost after the many, as a ratio to what it costs after one."""
_EVENTS: Final = 2
"""Events of each past job: that it began, and how it ended."""
_AT_ONCE: Final = 20_000
_WARMUP: Final = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `{job}` in the path stands for a past job's id, `{cursor}` for a place in the middle."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    status: int = 200


REQUESTS: Final = (
    Request("sync run, recorded (`REALTIME`)", "POST", "/invoke", INVOKE.request),
    Request("submit", "POST", "/invoke?mode=async", INVOKE.request, 202),
    Request("`GET /jobs/{job_id}`", "GET", "/jobs/{job}"),
    Request("`GET /jobs`", "GET", "/jobs"),
    Request("`GET /jobs?status=failed`", "GET", "/jobs?status=failed"),
    Request("`GET /jobs?status=completed`", "GET", "/jobs?status=completed"),
    Request("`GET /runs`", "GET", "/runs"),
    Request("`GET /metrics`", "GET", "/metrics"),
    Request("`GET /health`", "GET", "/health"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.write:
            parts_around(options.write, "past")  # before minutes are spent
        costs = measure(options.past, options.requests)
        run = f"median of {options.requests} requests each, in turns, one at a time"
        text = f"{costs_table(costs, options.past)}\n\n{facts_list(facts(), Run=run)}"
        print(text)
        if options.write:
            write_between(options.write, "past", text)
    except (BenchmarkError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.past", description=__doc__)
    parser.add_argument("--past", type=int, default=DEFAULT_PAST, help="jobs, default %(default)s")
    parser.add_argument("--requests", type=int, default=300, help="of each kind, default %(default)s")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into docs/performance.md")
    return parser


Costs = Mapping[str, tuple[float, float]]
"""Seconds that a request takes after one past job, and after many."""


def costs_table(costs: Costs, past: int) -> str:
    rows = []
    for name, (few, many) in costs.items():
        ratio = round(many / few, 2)
        verdict = f"{ratio:.2f} ≤ {BOUND:g}" if ratio <= BOUND else f"**{ratio:.2f} > {BOUND:g}**"
        rows.append([name, f"{few * 1e3:.2f}", f"{many * 1e3:.2f}", verdict])
    return table(("request", "ms after 1 job", f"ms after {past:,} jobs", "ratio"), rows)


# Measuring


def measure(past: int, requests: int) -> Costs:
    """Return what each request costs, as a median."""
    had = os.sched_getaffinity(0)
    try:
        with ExitStack() as stack:
            pair = [stack.enter_context(_served(count)) for count in (1, past)]
            return {request.name: _in_turns(pair, request, requests) for request in REQUESTS}
    finally:
        os.sched_setaffinity(0, had)


@dataclass(frozen=True, slots=True)
class Subject:
    """A server with a past; `jobs` are some of its ids."""

    server: Server
    connection: http.client.HTTPConnection
    jobs: Sequence[str]


def _served(past: int) -> "ExitStack[None]":
    raise NotImplementedError


def _in_turns(pair: Sequence[Subject], request: Request, count: int) -> tuple[float, float]:
    few, many = ([_timed(subject, request, number) for number in range(0)] for subject in pair)
    for number in range(-_WARMUP, count):
        for subject, times in zip(pair, (few, many), strict=True):
            seconds = _timed(subject, request, number)
            if number >= 0:
                times.append(seconds)
    return median(few), median(many)
