"""`python -m tests.benchmarks.past`: what a request costs after one past job, and after a million.

The past is written with SQL, as jobs and recorded runs would have left it. Both servers run at the same time and are
asked in turns, one request after the other.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import http.client
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks import workload
from tests.benchmarks.contenders import PIPELINES, ours
from tests.benchmarks.machine import facts
from tests.benchmarks.report import MarkerError, facts_list, parts_around, table, write_between
from tests.benchmarks.server import BenchmarkError, Cores, serving
from tests.benchmarks.tasks import INVOKE

DEFAULT_PAST: Final = 1_000_000
BOUND: Final = 1.3
"""What a request may cost after the many, as a ratio to what it costs after one."""
_WARMUP: Final = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `{job}` in the path stands for a past job's id."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    status: int = 200


SUBMIT: Final = Request("submit", "POST", "/invoke?mode=async", INVOKE.request, 202)
GET_JOB: Final = Request("`GET /jobs/{job_id}`", "GET", "/jobs/{job}")
# Lists of one: the first store has no more.
REQUESTS: Final = (
    Request("sync run, recorded (`REALTIME`)", "POST", "/invoke", INVOKE.request),
    SUBMIT,
    Request("job, followed to its end (`mode=stream`)", "POST", "/invoke?mode=stream", INVOKE.request),
    GET_JOB,
    Request("`GET /jobs?limit=1`", "GET", "/jobs?limit=1"),
    Request("`GET /jobs?limit=1&status=completed`", "GET", "/jobs?limit=1&status=completed"),
    Request("`GET /runs?limit=1`", "GET", "/runs?limit=1"),
    Request("`GET /metrics`", "GET", "/metrics"),
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


@dataclass(frozen=True, slots=True)
class Subject:
    """A server with a past; `job` is the id of a job in it."""

    connection: http.client.HTTPConnection
    job: str


def measure(past: int, requests: int) -> Costs:
    """Return what each request costs, as a median."""
    had = os.sched_getaffinity(0)
    try:
        with ExitStack() as stack:
            few, many = (_served(stack, count) for count in (1, past))
            return {request.name: _in_turns(few, many, request, requests) for request in REQUESTS}
    finally:
        os.sched_setaffinity(0, had)


def _served(stack: ExitStack, past: int) -> Subject:
    """Serve a store with `past` jobs and as many recorded runs."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    settings = {"store_url": str(folder / "store.db"), "capture": "REALTIME"}
    contender = replace(PIPELINES[ours("starlette", "async")], name=f"asgipipe after {past:,} jobs", settings=settings)
    with serving(contender, Cores.choose()) as server, closing(_connection(server.port)) as connection:
        job = _first_job(connection)
    fill(folder / "store.db", past)
    server = stack.enter_context(serving(contender, Cores.choose()))
    return Subject(stack.enter_context(closing(_connection(server.port))), job)


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60)


def _first_job(connection: http.client.HTTPConnection) -> str:
    """Have one job done, and return its id."""
    job: str = json.loads(_ask(connection, SUBMIT))["job_id"]
    deadline = time.monotonic() + 10
    while json.loads(_ask(connection, GET_JOB, job))["status"] != "completed":
        if time.monotonic() > deadline:
            raise BenchmarkError("the first job did not end within 10 s")
        time.sleep(0.02)
    return job


def _in_turns(few: Subject, many: Subject, request: Request, count: int) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = [], []
    for _ in range(_WARMUP + count):
        for subject, taken in zip((few, many), times, strict=True):
            began = time.perf_counter()
            _ask(subject.connection, request, subject.job)
            taken.append(time.perf_counter() - began)
    return median(times[0][_WARMUP:]), median(times[1][_WARMUP:])


def _ask(connection: http.client.HTTPConnection, request: Request, job: str = "") -> bytes:
    headers = {"content-type": "application/json", "authorization": f"Bearer {workload.AUTH_KEY}"}
    connection.request(request.method, request.path.format(job=job), request.body, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != request.status:
        raise BenchmarkError(f"{request.name} was answered with {response.status}: {answer[:500]!r}")
    return answer


# The past

# Ids are those of UUID version 7, a millisecond apart and all before the first one, in the order of time.
_IDS: Final = """
CREATE TEMP TABLE past AS
WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count)
SELECT number,
       printf('%s-%s-7000-8000-%012x', substr(stamp, 1, 8), substr(stamp, 9, 4), number) AS id,
       CASE WHEN number % 100 THEN 'completed' ELSE 'failed' END AS state
FROM (SELECT number, printf('%012x', :begin + number) AS stamp FROM numbers)
"""


def fill(path: Path, past: int) -> None:
    """Repeat the one job and the one recorded run in the store until there are `past` of each; a hundredth failed.

    Of the events the last one is repeated.
    """
    with closing(sqlite3.connect(path)) as connection:
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -400000",
        ):  # a log would double the time
            connection.execute(f"PRAGMA {pragma}")
        ((created,),) = connection.execute("SELECT MIN(created_at) FROM jobs").fetchall()
        begin = int(created * 1000) - past
        connection.execute(_IDS, {"count": past - 1, "begin": begin})
        _repeat(connection, "jobs", "id", {"id": "past.id", "state": "past.state"})
        _repeat(connection, "events", "id", {"job_id": "past.id"})
        _repeat(connection, "runs", "id", {"id": "past.id", "status": "past.state"})
        connection.commit()


def _repeat(connection: sqlite3.Connection, name: str, key: str, changes: Mapping[str, str]) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
    values = ", ".join(changes.get(column, f"one.{column}") for column in columns)
    sql = (
        f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values} FROM past"  # noqa: S608  # names of ours
        f" CROSS JOIN (SELECT * FROM {name} ORDER BY {key} DESC LIMIT 1) AS one ORDER BY number"
    )
    connection.execute(sql)


if __name__ == "__main__":
    sys.exit(main())
