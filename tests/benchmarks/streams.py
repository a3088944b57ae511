"""`python -m tests.benchmarks.streams`: the events of one job, sent to many followers at once.

All followers are there before the first event. The clock runs from the first byte of the first event at any of them to
the last byte of the last one at the last of them.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import asyncio
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from tests.benchmarks import workload
from tests.benchmarks.answers import WrongAnswerError
from tests.benchmarks.contenders import Contender, gate
from tests.benchmarks.machine import facts
from tests.benchmarks.report import MarkerError, facts_list, parts_around, table, write_between
from tests.benchmarks.results import Spread
from tests.benchmarks.server import BenchmarkError, Cores, Server, serving
from tests.benchmarks.tasks import Task

_PACKAGE: Final = "tests.benchmarks.contenders"
_LIMIT: Final = 60.0
_EVENT: Final = b"event: output_delta"
_END: Final = b"0\r\n\r\n"
"""The end of a body in chunks."""
_AT_ONCE: Final = 100
"""Connections that are opened at once: more than that waits in no listen queue."""


@dataclass(frozen=True, slots=True)
class FeedTask(Task):
    """The job; only the status of its answer is looked at."""

    def verify(self, name: str, status: int, answer: bytes) -> None:
        if status != 200:
            raise WrongAnswerError(f"{name} answered {status}: {answer[:500].decode(errors='replace')}")


def _nothing_to_do(_: object) -> bytes:
    return b'{"parameters":{"count":0}}'


def _unknown(city: str, temperature: float, humidity: float) -> Mapping[str, object]:
    raise NotImplementedError


TASK: Final = FeedTask("/invoke", _nothing_to_do, _unknown)
CONTENDERS: Final[Mapping[str, Contender]] = {
    "by_hand": Contender("by_hand", "bare ASGI function, from memory", f"{_PACKAGE}.feed_hand:app", task=TASK),
    "asgipipe": Contender(
        "asgipipe", "a job, its events durable first", f"{_PACKAGE}.feed:pipe", "starlette", "starlette", TASK
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 3
    followers: int = 1000
    events: int = 100


@dataclass(frozen=True, slots=True)
class Delivery:
    """One round: seconds until the last follower had everything, and processor seconds of the server."""

    seconds: float
    cpu: float


DEFAULT: Final = Plan()
Results = Mapping[str, Sequence[Delivery]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.rounds, options.followers, options.events)
    try:
        if options.write:
            parts_around(options.write, "streams")  # before minutes are spent
        results = measure(plan)
        run = f"{plan.rounds} interleaved rounds, {plan.followers:,} followers of {plan.events} events"
        text = f"{results_table(results, plan)}\n\n{facts_list(facts(), Run=run)}"
        print(text)
        if options.write:
            write_between(options.write, "streams", text)
    except (BenchmarkError, WrongAnswerError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.streams", description=__doc__)
    parser.add_argument("--rounds", type=int, default=DEFAULT.rounds, help="default %(default)s")
    parser.add_argument("--followers", type=int, default=DEFAULT.followers, help="default %(default)s")
    parser.add_argument("--events", type=int, default=DEFAULT.events, help="default %(default)s")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into docs/performance.md")
    return parser


def results_table(results: Results, plan: Plan) -> str:
    """Return the medians, and the ratios within each round to what was written by hand."""
    count = plan.followers * plan.events
    rows = []
    for name, taken in results.items():
        rates = Spread.of(count / one.seconds for one in taken)
        pairs = zip(taken, results["by_hand"], strict=True)
        ratio = Spread.of(other.seconds / one.seconds for one, other in pairs)
        rows.append(
            [
                f"`{name}`: {CONTENDERS[name].description}",
                f"{rates.median:,.0f} ({rates.low:,.0f} to {rates.high:,.0f})",
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                f"{Spread.of(one.seconds for one in taken).median * 1e3:,.0f}",
                f"{Spread.of(one.cpu for one in taken).median / count * 1e6:.1f}",
            ]
        )
    return table(("events", "delivered/s", "ratio to `by_hand`", "ms until all have all", "CPU µs/delivery"), rows)


# Measuring


def measure(plan: Plan) -> Results:
    """Return the deliveries of each contender, one for each round."""
    import uvloop  # not on every system that runs the tests

    had = os.sched_getaffinity(0)
    cores = Cores.choose()
    results: dict[str, list[Delivery]] = {name: [] for name in CONTENDERS}
    try:
        for number in range(1, plan.rounds + 1):
            for name, contender in CONTENDERS.items():
                with tempfile.TemporaryDirectory() as folder:
                    way_in = Path(folder, "gate")
                    os.mkfifo(way_in)
                    os.environ[gate.VARIABLE] = str(way_in)
                    with serving(contender, cores) as server:
                        found = uvloop.run(_deliver(server, plan, way_in))
                results[name].append(found)
                print(f"round {number}  {name:<10}{found.seconds * 1e3:>9,.0f} ms", file=sys.stderr)
    finally:
        os.sched_setaffinity(0, had)
    return results


async def _deliver(server: Server, plan: Plan, way_in: Path) -> Delivery:
    job = _submit(server, plan.events)
    loop = asyncio.get_running_loop()
    followers = [Follower(job) for _ in range(plan.followers)]
    try:
        async with asyncio.timeout(_LIMIT):
            for begin in range(0, len(followers), _AT_ONCE):
                some = followers[begin : begin + _AT_ONCE]
                for one in some:
                    await loop.create_connection(lambda one=one: one, "127.0.0.1", server.port)  # type: ignore[misc]
                await asyncio.gather(*(one.begun for one in some))
            cpu = server.cpu_seconds()
            await asyncio.to_thread(way_in.write_bytes, b"")
            await asyncio.gather(*(one.ended for one in followers))
            cpu = server.cpu_seconds() - cpu
    except TimeoutError:
        missing = sum(not one.ended.done() for one in followers)
        raise BenchmarkError(f"{server.name}: {missing} followers have not everything after {_LIMIT:g} s") from None
    for one in followers:
        one.verify(server.name, plan.events)
    return Delivery(max(one.last for one in followers) - min(one.first for one in followers), cpu)


def _submit(server: Server, events: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT)
    headers = {"content-type": "application/json", "authorization": f"Bearer {workload.AUTH_KEY}"}
    try:
        connection.request("POST", "/invoke?mode=async", json.dumps({"parameters": {"count": events}}), headers)
        job: str = json.load(connection.getresponse())["job_id"]
        return job
    finally:
        connection.close()


class Follower(asyncio.Protocol):
    """One client that reads an event stream to its end."""

    def __init__(self, job: str) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.first = self.last = 0.0
        self._job = job
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass
        self._transport.write(
            f"GET /stream/{self._job} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {workload.AUTH_KEY}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if not self.first and _EVENT in data:
            self.first = time.perf_counter()
        if not self.begun.done() and b"retry:" in data:
            self.begun.set_result(None)
        if data.endswith(_END):
            self.last = time.perf_counter()
            self.ended.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.begun, self.ended):
            if not waiting.done():
                waiting.set_exception(BenchmarkError(f"a follower was cut off: {exc}"))

    def verify(self, name: str, events: int) -> None:
        """Raise BenchmarkError unless every event has come."""
        found = b"".join(self._parts).count(_EVENT)
        if found != events:
            raise BenchmarkError(f"{name}: a follower has {found} of {events} events")


if __name__ == "__main__":
    sys.exit(main())
