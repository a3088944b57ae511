"""Where a request spends its time inside asgipipe: stopwatches between the layers of a running deployment."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from tests.benchmarks import workload
from tests.benchmarks.asgi import ASGIApp, Receive, Scope, Send, call, running
from tests.benchmarks.inprocess import frozen, timed
from tests.benchmarks.tasks import INVOKE

if TYPE_CHECKING:
    from asgipipe import Deployment

P = ParamSpec("P")
T = TypeVar("T")

SENDING: Final = "sending the answer through the layers"
ENDPOINT: Final = "endpoint: read, validate, serialise"
SERVICE: Final = "service, run context, steps"
STEPS: Final = "the work of the three steps alone"

# Where a layer keeps the next one.
_INNER: Final = ("layers", "app")


class Stopwatch:
    """Adds up the seconds that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Return `function` with its time taken."""

        async def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


class Inside:
    """The stopwatches in one deployment; it stays instrumented, so make one for this purpose."""

    def __init__(self, deployment: "Deployment") -> None:
        self._layers: list[tuple[str, Stopwatch]] = []
        self._sending = Stopwatch()
        self._service = Stopwatch()
        service = deployment.service
        setattr(service, "invoke", self._service.around(service.invoke))  # noqa: B010  (mypy: a method is replaced)
        found = list(_chain(deployment.asgi_app))
        for owner, attribute, inner in found:
            watch = Stopwatch()
            innermost = inner is found[-1][2]
            setattr(owner, attribute, watch.around(self._with_timed_send(inner) if innermost else inner))
            self._layers.append((type(inner).__name__, watch))

    def _with_timed_send(self, app: ASGIApp) -> ASGIApp:
        async def sending(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, self._sending.around(send))

        return sending

    def reset(self) -> None:
        for watch in (*(watch for _, watch in self._layers), self._sending, self._service):
            watch.seconds = 0.0

    def seconds(self) -> dict[str, float]:
        """Return what each part took itself, without what it calls; the layers from the outside in."""
        parts: dict[str, float] = {}
        for (name, watch), (_, inner) in zip(self._layers, self._layers[1:], strict=False):
            parts[name] = parts.get(name, 0.0) + watch.seconds - inner.seconds
        innermost = self._layers[-1][1]
        parts[ENDPOINT] = innermost.seconds - self._service.seconds - self._sending.seconds
        parts[SERVICE] = self._service.seconds
        parts[SENDING] = self._sending.seconds
        return parts


def _chain(outermost: object) -> Iterator[tuple[object, str, ASGIApp]]:
    """Yield each layer's owner, the attribute it is kept in, and the layer."""
    owner = outermost
    while attribute := next((name for name in _INNER if callable(getattr(owner, name, None))), None):
        inner: ASGIApp = getattr(owner, attribute)
        yield owner, attribute, inner
        owner = inner


async def measure_inside(iterations: int, repeats: int) -> dict[str, float]:
    """Return the seconds per request of each part of asgipipe, of the repeat that took the least."""
    from asgipipe import Deployment
    from tests.benchmarks import pipelines

    deployment = Deployment(pipelines.weather_async, {"auth_key": workload.AUTH_KEY})
    inside = Inside(deployment)
    best: dict[str, float] = {}
    async with running(deployment.asgi_app) as app:
        INVOKE.verify(deployment.name, *await call(app, INVOKE.path, INVOKE.request))
        with frozen():
            for _ in range(repeats):
                inside.reset()
                await timed(app, INVOKE, iterations)
                seconds = inside.seconds()
                best = min(best or seconds, seconds, key=lambda parts: sum(parts.values()))
    return {name: seconds / iterations for name, seconds in best.items()}


def work_alone(repeats: int) -> float:
    """Return the seconds that the work takes without anything around it."""
    city, temperature = str(workload.PARAMETERS["city"]), float(workload.PARAMETERS["temperature"])
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(1000):
            workload.analyse(city, temperature, workload.DEFAULT_HUMIDITY)
        best = min(best, (time.perf_counter() - began) / 1000)
    return best
