"""`python -m tests.benchmarks.jobs`: jobs per second beside other queues, in the same rounds.

What is not installed is skipped; for all of it: pip install "asgipipe[benchmarks]", and Debian's package postgresql.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.benchmarks import load, workload
from tests.benchmarks.contenders import PIPELINES, ours
from tests.benchmarks.machine import facts
from tests.benchmarks.queues import Throughput
from tests.benchmarks.report import MarkerError, facts_list, parts_around, table, write_between
from tests.benchmarks.results import Spread
from tests.benchmarks.server import BenchmarkError, Cores, Server, serving
from tests.benchmarks.tasks import INVOKE
from tests.postgresql import PostgreSQLServer, binaries, running

_ROOT: Final = Path(__file__).resolve().parents[2]
_LIMIT: Final = 180.0
_WARMUP: Final = 0.3
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
SUBMIT: Final = replace(INVOKE, path="/invoke?mode=async")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a queue of `tests.benchmarks.queues`, or asgipipe over HTTP, in a store of the kind `database`.

    `packages` are those without which it is skipped; `beside` is the row that it is compared with.
    """

    description: str
    queue: str | None
    database: str
    beside: str
    packages: Sequence[str] = ()

    @property
    def missing(self) -> list[str]:
        return [name for name in self.packages if find_spec(name) is None]


ENTRIES: Final[Mapping[str, Entry]] = {
    "huey": Entry("huey, `fsync` on, threads", "huey", SQLITE, "huey", ["huey"]),
    "sqlite": Entry("asgipipe, through Python", "asgipipe", SQLITE, "huey"),
    "sqlite_forgetful": Entry("asgipipe, through Python, `job_resume` off", "asgipipe_forgetful", SQLITE, "huey"),
    "sqlite_http": Entry("asgipipe, over HTTP", None, SQLITE, "huey"),
    "procrastinate": Entry("procrastinate", "procrastinate", POSTGRESQL, "procrastinate", ["procrastinate", "psycopg"]),
    "postgresql": Entry("asgipipe, through Python", "asgipipe", POSTGRESQL, "procrastinate", ["psycopg"]),
    "postgresql_forgetful": Entry(
        "asgipipe, through Python, `job_resume` off", "asgipipe_forgetful", POSTGRESQL, "procrastinate", ["psycopg"]
    ),
    "postgresql_http": Entry("asgipipe, over HTTP", None, POSTGRESQL, "procrastinate", ["psycopg"]),
}

Results = Mapping[str, Sequence[Throughput]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: `seconds` of submitting, from `concurrency` places; as many jobs run at once."""

    rounds: int = 3
    seconds: float = 1.0
    concurrency: int = 16


DEFAULT: Final = Plan()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.rounds, options.seconds, options.concurrency)
    try:
        if options.write:
            parts_around(options.write, "jobs")  # before minutes are spent
        results, skipped = measure(plan, options.only or list(ENTRIES))
        rounds = f"{plan.rounds} interleaved rounds of {plan.seconds:g} s of submitting"
        run = {"Queues": ", ".join(_versions()), "Run": f"{rounds}, {plan.concurrency} jobs at once"}
        if skipped:
            run["Skipped"] = ", ".join(skipped)
        text = f"{results_table(results)}\n\n{facts_list(facts(), **run)}"
        print(text)
        if options.write:
            write_between(options.write, "jobs", text)
    except (BenchmarkError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.jobs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=DEFAULT.rounds, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=DEFAULT.seconds, help="of submitting, default %(default)s")
    parser.add_argument("--concurrency", type=int, default=DEFAULT.concurrency, help="default %(default)s")
    parser.add_argument("--only", nargs="+", choices=ENTRIES, metavar="NAME", help=f"some of {', '.join(ENTRIES)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into docs/performance.md")
    return parser


def results_table(results: Results) -> str:
    """Return the medians, and the ratios within each round to the queue that has the same store."""
    header = ("queue", "store", "submits/s", "ratio", "jobs/s", "ratio")
    return table(header, [_row(results, name) for name in results])


def _versions() -> Iterator[str]:
    for package in ("huey", "procrastinate", "psycopg"):
        if find_spec(package) is not None:
            yield f"{package} {importlib.metadata.version(package)}"


def _row(results: Results, name: str) -> list[str]:
    entry = ENTRIES[name]
    cells = [f"`{name}`: {entry.description}", entry.database]
    figures: tuple[Callable[[Throughput], float], ...] = (lambda one: one.submitted, lambda one: one.done)
    for figure in figures:
        values = [figure(one) for one in results[name]]
        base = [figure(one) for one in results.get(entry.beside, ())]
        ratios = [value / other for value, other in zip(values, base, strict=False)]
        found = Spread.of(values)
        cells.append(f"{found.median:,.0f} ({found.low:,.0f} to {found.high:,.0f})")
        cells.append(f"{Spread.of(ratios).median:.2f}" if ratios else "")
    return cells


# Measuring


def measure(plan: Plan, names: Sequence[str]) -> tuple[Results, list[str]]:
    """Return the figures of each entry, one for each round, and which were skipped for want of what."""
    skipped: list[str] = []
    with ExitStack() as stack:
        stores = Stores(stack)
        chosen: list[str] = []
        for name in names:
            entry = ENTRIES[name]
            missing = [*entry.missing, *([] if stores.has(entry.database) else ["a PostgreSQL server"])]
            if missing:
                skipped.append(f"`{name}` ({', '.join(missing)} is not installed)")
                print(f"skipped: {skipped[-1]}", file=sys.stderr)
            else:
                chosen.append(name)
        results: dict[str, list[Throughput]] = {name: [] for name in chosen}
        for number in range(1, plan.rounds + 1):
            for name in chosen:
                found = _measure_once(ENTRIES[name], plan, stores)
                results[name].append(found)
                rates = f"{found.submitted:>9,.0f} submits/s{found.done:>9,.0f} jobs/s"
                print(f"round {number}  {name:<22}{rates}", file=sys.stderr)
    return results, skipped


class Stores:
    """New, empty stores; the PostgreSQL server is started with the first one that needs it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._server: PostgreSQLServer | None = None

    def has(self, database: str) -> bool:
        return database == SQLITE or binaries() is not None

    @contextmanager
    def new(self, database: str) -> Iterator[str]:
        if database == SQLITE:
            with tempfile.TemporaryDirectory() as folder:
                yield f"{folder}/store.db"
            return
        if self._server is None:
            self._server = self._stack.enter_context(running())
        with self._server.database() as url:
            yield url


def _measure_once(entry: Entry, plan: Plan, stores: Stores) -> Throughput:
    with stores.new(entry.database) as first, stores.new(entry.database) as second:
        if entry.queue is not None:
            return _apart(entry.queue, first, second, plan)
        with _same_cores():
            return Throughput(_over_http(first, plan, works=False), _over_http(second, plan, works=True))


def _apart(queue: str, first: str, second: str, plan: Plan) -> Throughput:
    # On all cores: threads, and a database server beside them, are part of what is measured.
    arguments = [queue, first, second, str(plan.seconds), str(plan.concurrency)]
    command = [sys.executable, "-m", "tests.benchmarks.queues", *arguments]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{queue} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return Throughput(**json.loads(done.stdout))


@contextmanager
def _same_cores() -> Iterator[None]:
    """Give this process back the cores that it had: serving leaves it one."""
    had = os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setaffinity(0, had)


def _over_http(store: str, plan: Plan, *, works: bool) -> float:
    """Return how many jobs a second a server accepts, or, if it `works`, accepts, runs and writes down."""
    settings = {
        "store_url": store,
        "run_jobs": str(works).lower(),
        "job_concurrency": str(plan.concurrency),
        "max_pending_jobs": "10000000",
    }
    served = replace(PIPELINES[ours("starlette", "async")], name="asgipipe over HTTP", settings=settings)
    with serving(served, Cores.choose()) as server:
        target = load.Target(served.name, server.port, SUBMIT, plan.concurrency)
        load.run(target, _WARMUP)
        if not works:
            return load.run(target, plan.seconds).rate
        before = _await_end(server)
        began = time.perf_counter()
        load.run(target, plan.seconds)
        return (_await_end(server) - before) / (time.perf_counter() - began)


def _await_end(server: Server) -> int:
    """Wait until no job is left to be done; return how many have been done in all."""
    deadline = time.monotonic() + _LIMIT
    while _count(server, "pending") or _count(server, "running"):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{server.name} did not end its jobs within {_LIMIT:g} s")
        time.sleep(0.02)
    return _count(server, "completed")


def _count(server: Server, state: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT)
    try:
        headers = {"authorization": f"Bearer {workload.AUTH_KEY}"}
        connection.request("GET", f"/jobs?status={state}&limit=1", headers=headers)
        total: int = json.load(connection.getresponse())["total"]
        return total
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
