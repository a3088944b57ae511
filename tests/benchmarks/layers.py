"""`python -m tests.benchmarks.layers`: microseconds per request in one process, without sockets.

Each application is called in one event loop with a ready-made request. The best of many repeats is shown: noise only
adds, so the least is the cost of the code. Layers are measured twice: by switching off what a setting switches off, and
by stopwatches between all of them. Every table has a process of its own, so that no framework's global state, such as
Django's settings, meets that of another table.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import cProfile
import io
import multiprocessing
import pstats
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks.answers import WrongAnswerError
from tests.benchmarks.asgi import call, running
from tests.benchmarks.contenders import CONTENDERS, EMBEDDED, ENDPOINTS, FRAMEWORKS, WORKLOADS, ours
from tests.benchmarks.inprocess import Subject, frozen, measure, subject, timed
from tests.benchmarks.inside import STEPS, measure_inside, work_alone
from tests.benchmarks.machine import facts
from tests.benchmarks.report import MarkerError, facts_list, parts_around, table, write_between

EVERYTHING: Final = ours("starlette", "async")
PROFILED_LINES: Final = 30
RUNNER_BOUND: Final = 1.1
"""What a built-in endpoint may cost on a runner, as a ratio to the Starlette runner."""

CONTENDER_NAMES: Final = (
    "constant",
    "reference",
    "starlette_hand",
    EVERYTHING,
    ours("starlette", "nonblocking"),
    ours("starlette", "sync"),
)
# asgipipe with something switched off or on: the settings that differ.
VARIANTS: Final[Mapping[str, Mapping[str, object]]] = {
    "without a key": {"auth_key": None},
    "without secure headers": {"include_default_middleware": "CORS"},
    "with CORS for an origin": {"cors": {"allow_origins": ["https://example.org"]}},
    "without a deadline": {"request_timeout": None},
    "without any of them": {"auth_key": None, "include_default_middleware": "NONE", "request_timeout": None},
}

Best = Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.profile:
            print(profile(options.profile, options.iterations))
            return 0
        if options.write:
            parts_around(options.write, "layers")  # before minutes are spent
        chosen = {name: TABLES[name] for name in options.tables}
        text = "\n\n".join(_apart(partial(make, options.iterations, options.repeats)) for make in chosen.values())
        run = f"best of {options.repeats} interleaved repeats of {options.iterations} requests, one at a time"
        text = f"{text}\n\n{facts_list(facts(), Run=run)}"
        print(text)
        if options.write:
            write_between(options.write, "layers", text)
    except (WrongAnswerError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.layers", description=__doc__)
    parser.add_argument("--iterations", type=int, default=1000, help="requests per repeat, default %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="the best counts, default %(default)s")
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=str([*TABLES])
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into docs/performance.md")
    parser.add_argument(
        "--profile",
        nargs="?",
        const=EVERYTHING,
        choices=CONTENDERS,
        metavar="NAME",
        help=f"print where the time goes (cProfile) instead, default {EVERYTHING}",
    )
    return parser


def _apart(make: Callable[[], str]) -> str:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(make).result()


def _measured(subjects: Iterable[Subject], iterations: int, repeats: int) -> dict[str, float]:
    import uvloop  # not on every system that runs the tests

    named = {one.name: one for one in subjects}
    return uvloop.run(measure(named, iterations, repeats))


def _available(names: Iterable[str]) -> list[Subject]:
    return [subject(name) for name in names if CONTENDERS[name].available]


# The tables


def inside_table(iterations: int, repeats: int) -> str:
    """Return what each part of asgipipe takes."""
    import uvloop

    parts = uvloop.run(measure_inside(iterations, repeats))
    rows = [[_part(name), _micro(seconds)] for name, seconds in parts.items()]
    rows.append([STEPS, _micro(work_alone(repeats))])
    return table((f"inside `{EVERYTHING}`, from the outside in", "µs/request"), rows)


def variants_table(iterations: int, repeats: int) -> str:
    """Return what a setting adds or saves."""
    best = _measured([*_available(CONTENDER_NAMES), *variants()], iterations, repeats)
    rows = [[_label(name), _micro(seconds), _difference(name, best)] for name, seconds in best.items()]
    return table(("application", "µs/request", "difference µs"), rows)


def variants() -> list[Subject]:
    """Return asgipipe with each of the settings changed."""
    contender = CONTENDERS[EVERYTHING]
    return [Subject(name, partial(contender.load, **settings)) for name, settings in VARIANTS.items()]


def runners_table(iterations: int, repeats: int) -> str:
    """Return what the built-in endpoint costs on each runner, in ratio to the Starlette runner."""
    names = [ours(framework, kind) for kind in WORKLOADS for framework in FRAMEWORKS]
    best = _measured(_available(names), iterations, repeats)
    rows = []
    for kind in WORKLOADS:
        base = best[ours("starlette", kind)]
        costs = {name: seconds for name, seconds in best.items() if name.endswith(f"_{kind}")}
        rows += [[f"`{name}`", _micro(seconds), _bounded(seconds / base)] for name, seconds in costs.items()]
    return table(("built-in endpoint", "µs/request", "ratio to the Starlette runner"), rows)


def endpoints_table(iterations: int, repeats: int) -> str:
    """Return what a custom endpoint costs beside the same one written by hand."""
    return _beside(ENDPOINTS, iterations, repeats, "custom endpoint", "ratio to the one by hand")


def embedded_table(iterations: int, repeats: int) -> str:
    """Return what a deployment in a host costs beside a standalone one."""
    # Hosts first: without one, asgipipe makes Django's settings its own.
    names = [name for each in FRAMEWORKS for name in (*_hosts(each), ours(each, "async"))]
    return _beside(names, iterations, repeats, "deployment", "ratio to standalone")


def _hosts(framework: str) -> list[str]:
    return [name for name, contender in EMBEDDED.items() if contender.framework == framework]


def _beside(names: Iterable[str], iterations: int, repeats: int, what: str, ratio: str) -> str:
    best = _measured(_available(names), iterations, repeats)
    rows = []
    for name, seconds in best.items():
        base = best.get(CONTENDERS[name].beside, seconds)
        compared = "" if base == seconds else f"{seconds / base:.2f}"
        rows.append([f"`{name}`: {CONTENDERS[name].description}", _micro(seconds), compared])
    return table((what, "µs/request", ratio), rows)


TABLES: Final[Mapping[str, Callable[[int, int], str]]] = {
    "inside": inside_table,
    "variants": variants_table,
    "runners": runners_table,
    "endpoints": endpoints_table,
    "embedded": embedded_table,
}


def profile(name: str, iterations: int) -> str:
    """Return the functions that a contender's time goes into."""
    import uvloop

    return uvloop.run(_profile(subject(name), iterations))


async def _profile(found: Subject, iterations: int) -> str:
    task = found.task
    async with running(found.load()) as app:
        task.verify(found.name, *await call(app, task.path, task.request))
        await timed(app, task, iterations)
        with frozen(), cProfile.Profile() as profiler:
            await timed(app, task, iterations)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILED_LINES)
    return text.getvalue()


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _bounded(ratio: float) -> str:
    ratio = round(ratio, 2)
    return f"{ratio:.2f} ≤ {RUNNER_BOUND}" if ratio <= RUNNER_BOUND else f"**{ratio:.2f} > {RUNNER_BOUND}**"


def _part(name: str) -> str:
    return name if " " in name else f"`{name}`"


def _label(name: str) -> str:
    return f"`{EVERYTHING}` {name}" if name in VARIANTS else f"`{name}`"


def _difference(name: str, best: Best) -> str:
    return f"{(best[name] - best[EVERYTHING]) * 1e6:+.1f}" if name in VARIANTS else ""


if __name__ == "__main__":
    sys.exit(main())
