"""`python -m tests.benchmarks.layers`: microseconds per request in one process, without sockets.

Each application is called in one event loop with a ready-made request. The best of many repeats is shown: noise only
adds, so the least is the cost of the code. Layers are measured twice: by switching off what a setting switches off, and
by stopwatches between all of them.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import asyncio
import cProfile
import gc
import importlib.util
import io
import pstats
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks import workload
from tests.benchmarks.answers import WrongAnswerError, verify
from tests.benchmarks.asgi import ASGIApp, Message, Scope, call, running, scope
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.inside import STEPS, Inside, work_alone
from tests.benchmarks.machine import facts
from tests.benchmarks.report import MarkerError, facts_list, table, write_between

EVERYTHING: Final = "asgipipe_async"
PROFILED_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class Variant:
    """asgipipe with something switched off or on; `settings` replace those of the contender."""

    name: str
    pipeline: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> ASGIApp:
        """Build the application."""
        from asgipipe import asgi
        from tests.benchmarks import pipelines

        settings: dict[str, object] = {"auth_key": workload.AUTH_KEY, **self.settings}
        app: ASGIApp = asgi(getattr(pipelines, self.pipeline), settings)
        return app


VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant("without a key", "weather_async", {"auth_key": None}),
        Variant("without secure headers", "weather_async", {"include_default_middleware": "CORS"}),
        Variant("with CORS for an origin", "weather_async", {"cors": {"allow_origins": ["https://example.org"]}}),
        Variant("without a deadline", "weather_async", {"request_timeout": None}),
        Variant(
            "without any of them",
            "weather_async",
            {"auth_key": None, "include_default_middleware": "NONE", "request_timeout": None},
        ),
    )
}
CONTENDER_NAMES: Final = (
    "constant",
    "reference",
    "starlette_hand",
    EVERYTHING,
    "asgipipe_nonblocking",
    "asgipipe_sync",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    import uvloop  # not on every system that runs the tests

    options = _parser().parse_args(arguments)
    try:
        if options.profile:
            print(uvloop.run(_profile(options.profile, options.iterations)))
            return 0
        chosen = {name: load for name, load in loaders().items() if name in (options.only or loaders())}
        text = _document(uvloop.run(measure(chosen, options.iterations, options.repeats)), options)
        if not options.only:
            text = f"{uvloop.run(_inside(options.iterations, options.repeats))}\n\n{text}"
        print(text)
        if options.write:
            write_between(options.write, "layers", text)
    except (WrongAnswerError, MarkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.layers", description=__doc__)
    parser.add_argument("--iterations", type=int, default=2000, help="requests per repeat, default %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="the best counts, default %(default)s")
    parser.add_argument("--only", nargs="+", choices=loaders(), metavar="NAME", help=f"some of {', '.join(loaders())}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into docs/performance.md")
    parser.add_argument(
        "--profile",
        nargs="?",
        const=EVERYTHING,
        choices=loaders(),
        metavar="NAME",
        help=f"print where the time goes (cProfile) instead, default {EVERYTHING}",
    )
    return parser


def loaders() -> dict[str, Callable[[], ASGIApp]]:
    """Return what can be measured here, by name, each with what builds it."""
    found: dict[str, Callable[[], ASGIApp]] = {
        name: CONTENDERS[name].load for name in CONTENDER_NAMES if CONTENDERS[name].available
    }
    if importlib.util.find_spec("asgipipe") is not None:
        found |= {name: variant.load for name, variant in VARIANTS.items()}
    return found


async def measure(load: Mapping[str, Callable[[], ASGIApp]], iterations: int, repeats: int) -> dict[str, float]:
    """Return seconds per request of each application: the best of `repeats`, interleaved."""
    async with AsyncExitStack() as stack:
        apps = {name: await stack.enter_async_context(running(build())) for name, build in load.items()}
        for name, app in apps.items():
            verify(name, *await call(app))
        best = dict.fromkeys(apps, float("inf"))
        with _frozen():
            for _ in range(repeats):
                for name, app in apps.items():
                    best[name] = min(best[name], await _timed(app, iterations))
        return best


@contextmanager
def _frozen() -> Iterator[None]:
    """Keep what was built so far out of the garbage collections to come; collections themselves stay on."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _timed(app: ASGIApp, iterations: int) -> float:
    scopes, receives = _requests(iterations)
    began = time.perf_counter()
    for request, receive in zip(scopes, receives, strict=True):
        await app(request, receive, _discard)
    return (time.perf_counter() - began) / iterations


Receive = Callable[[], Coroutine[None, None, Message]]


def _requests(count: int) -> tuple[list[Scope], list[Receive]]:
    """Return fresh requests, made before the clock starts: scopes are changed by what they pass through."""

    def receiver() -> Receive:
        messages = [{"type": "http.request", "body": workload.BODY, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # the client stays connected for as long as anybody asks
            raise AssertionError

        return receive

    return [scope() for _ in range(count)], [receiver() for _ in range(count)]


async def _discard(_message: Message) -> None:
    return


async def measure_inside(iterations: int, repeats: int) -> dict[str, float]:
    """Return the seconds per request of each part of asgipipe, of the repeat that took the least."""
    from asgipipe import Deployment
    from tests.benchmarks import pipelines

    deployment = Deployment(pipelines.weather_async, {"auth_key": workload.AUTH_KEY})
    inside = Inside(deployment)
    best: dict[str, float] = {}
    async with running(deployment.asgi_app) as app:
        verify(EVERYTHING, *await call(app))
        with _frozen():
            for _ in range(repeats):
                inside.reset()
                await _timed(app, iterations)
                seconds = inside.seconds()
                best = min(best or seconds, seconds, key=lambda parts: sum(parts.values()))
    return {name: seconds / iterations for name, seconds in best.items()}


async def _inside(iterations: int, repeats: int) -> str:
    parts = await measure_inside(iterations, repeats)
    rows = [[_part(name), f"{seconds * 1e6:.1f}"] for name, seconds in parts.items()]
    rows.append([STEPS, f"{work_alone(repeats) * 1e6:.1f}"])
    return table((f"inside `{EVERYTHING}`, from the outside in", "µs/request"), rows)


def _part(name: str) -> str:
    return name if " " in name else f"`{name}`"


async def _profile(name: str, iterations: int) -> str:
    async with running(loaders()[name]()) as app:
        verify(name, *await call(app))
        await _timed(app, iterations)
        with _frozen(), cProfile.Profile() as profile:
            await _timed(app, iterations)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILED_LINES)
    return text.getvalue()


def _document(best: Mapping[str, float], options: argparse.Namespace) -> str:
    rows = [[_label(name), f"{seconds * 1e6:.1f}", _difference(name, best)] for name, seconds in best.items()]
    run = f"best of {options.repeats} interleaved repeats of {options.iterations} requests, one at a time"
    return f"{table(('application', 'µs/request', 'difference µs'), rows)}\n\n{facts_list(facts(), Run=run)}"


def _label(name: str) -> str:
    return f"`{name}`" if name in CONTENDERS else f"`{EVERYTHING}` {name}"


def _difference(name: str, best: Mapping[str, float]) -> str:
    return f"{(best[name] - best[EVERYTHING]) * 1e6:+.1f}" if name in VARIANTS and EVERYTHING in best else ""


if __name__ == "__main__":
    sys.exit(main())
