"""The applications that are measured.

Nothing is imported here, so that a server process pays for its own contender only. Applications written by hand are
named `<framework>_...`, those that asgipipe builds `asgipipe_<framework>_...`.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tests.benchmarks import workload
from tests.benchmarks.tasks import COMFORT, COMFORT_SYNC, INVOKE, Task

if TYPE_CHECKING:
    from tests.benchmarks.asgi import ASGIApp

REFERENCE: Final = "reference"
FRAMEWORKS: Final = {"starlette": "Starlette", "fastapi": "FastAPI", "django": "Django", "quart": "Quart"}
# How each mode is given, and what it writes.
CAPTURES: Final = {
    "realtime": ("REALTIME", "everything, in the background"),
    "metadata": ("metadata", "runs and steps without payloads, in the background"),
    "off": ("OFF", "payloads without metadata and logs, in the background"),
    "sampled": ("sampled(0.1)", "everything of a tenth of the runs"),
    "errors_only": ("errors_only", "nothing of runs that succeed"),
    "batch": ("BATCH", "everything, durable before each step ends"),
}
WORKLOADS: Final = {
    "async": "async pipeline",
    "nonblocking": "sync pipeline, `blocking=False`",
    "sync": "sync pipeline in threads",
}

_PIPELINES: Final = "tests.benchmarks.pipelines:"
# What `asgipipe serve` chooses too.
_UVICORN: Final = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")


@dataclass(frozen=True, slots=True)
class Contender:
    """One application.

    `source` is a module of this package and an attribute of it, the ASGI application; or, where a `runner` is named,
    the pipeline that `asgipipe serve` is given. `framework` is the package without which it is skipped. Ratios are
    taken to the contender called `beside`. `settings` are those with which asgipipe serves it.
    """

    name: str
    description: str
    source: str
    framework: str = "pydantic"
    runner: str | None = None
    task: Task = INVOKE
    beside: str = REFERENCE
    computes: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, port: int) -> list[str]:
        """Return the arguments for Python that serve it on `port`: one process, uvloop, httptools, no access log."""
        if self.runner is None:
            serve = ["-m", "uvicorn", *_UVICORN, self.source]
        else:
            serve = ["-m", "asgipipe", "serve", self.source, "--runner", self.runner]
        return [*serve, "--port", str(port), "--log-level", "warning"]

    @property
    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {f"ASGIPIPE_{name.upper()}": value for name, value in self.settings.items()}

    @property
    def available(self) -> bool:
        needed = (self.framework, "asgipipe") if self.runner else (self.framework,)
        return all(importlib.util.find_spec(package) is not None for package in needed)

    def load(self, **settings: object) -> "ASGIApp":
        """Import or build the application; `settings` are for what asgipipe builds."""
        module, _, attribute = self.source.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if self.runner is None:
            app: ASGIApp = found
            return app
        from asgipipe import asgi

        base = {"auth_key": workload.AUTH_KEY, "deployment_app_runner_flavor": self.runner, "store_url": "memory:"}
        return asgi(found, {**base, **self.settings, **settings})


def _by_name(*contenders: Contender) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


def _here(source: str) -> str:
    return f"{__name__}.{source}"


def ours(runner: str, kind: str) -> str:
    """Return the name of what asgipipe builds with `runner`."""
    return f"asgipipe_{runner}_{kind}"


def _pipelines() -> Iterator[Contender]:
    """Yield what answers `POST /invoke`."""
    yield Contender("constant", "answers a constant: the floor of HTTP", _here("constant:app"), computes=False)
    yield Contender(REFERENCE, "bare ASGI function, pydantic models, by hand", _here("reference:app"))
    for framework, title in FRAMEWORKS.items():
        hand = f"{title} by hand, the models of `{REFERENCE}`"
        yield Contender(f"{framework}_hand", hand, _here(f"{framework}_hand:app"), framework)
        for kind, description in WORKLOADS.items():
            source = f"{_PIPELINES}weather_{kind}"
            yield Contender(ours(framework, kind), f"{title} runner, {description}", source, framework, framework)


def _endpoints() -> Iterator[Contender]:
    """Yield one typed endpoint, written by hand with a framework and as custom endpoints of asgipipe on it."""
    for framework, title in FRAMEWORKS.items():
        for kind, task in (("comfort", COMFORT), ("comfort_sync", COMFORT_SYNC)):
            hand = f"{framework}_{kind}"
            what = "sync" if task is COMFORT_SYNC else "async"
            source = f"{_PIPELINES}weather_with_endpoints"
            yield Contender(
                hand, f"{title} by hand, {what}", _here(f"{framework}_hand:app"), framework, task=task, beside=hand
            )
            yield Contender(
                ours(framework, kind), f"{title} runner, {what}", source, framework, framework, task, beside=hand
            )
        yield Contender(
            ours(framework, "comfort_request"),
            f"{title} runner, async, takes {title}'s own request",
            _here(f"{framework}_request:weather"),
            framework,
            framework,
            COMFORT,
            beside=f"{framework}_comfort",
        )


def _captures() -> Iterator[Contender]:
    """Yield the pipeline of the Starlette runner as it records its runs, beside itself without and the reference."""
    yield PIPELINES[REFERENCE]
    for kind in WORKLOADS:
        yield PIPELINES[ours("starlette", kind)]
        yield _capturing(kind, "realtime")
    for capture in CAPTURES:
        if capture != "realtime":
            yield _capturing("async", capture)


def _capturing(kind: str, capture: str) -> Contender:
    mode, writes = CAPTURES[capture]
    recorded = f"{WORKLOADS[kind]}; `{mode}`: {writes}"
    plain = PIPELINES[ours("starlette", kind)]
    return replace(plain, name=f"asgipipe_{kind}_{capture}", description=recorded, settings={"capture": mode})


def _embedded() -> Iterator[Contender]:
    """Yield hosts with the async pipeline in them; standalone ones stand beside them in the table of layers."""
    for framework, title in FRAMEWORKS.items():
        for form in ("mounted", "included"):
            yield Contender(
                f"asgipipe_{framework}_{form}",
                f"{form} in {title}",
                _here(f"{framework}_host:{form}"),
                framework,
                task=INVOKE.below("/weather"),
                beside=ours(framework, "async"),
            )


PIPELINES: Final = _by_name(*_pipelines())
ENDPOINTS: Final = _by_name(*_endpoints())
CAPTURING: Final = _by_name(*_captures())
EMBEDDED: Final = _by_name(*_embedded())
CONTENDERS: Final = {**PIPELINES, **ENDPOINTS, **CAPTURING, **EMBEDDED}
