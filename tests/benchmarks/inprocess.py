"""Seconds per request of applications in one process and one event loop, without sockets, one request at a time."""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.asgi import ASGIApp, Message, Scope, call, running, scope
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.tasks import INVOKE, Task

SLICE: Final = 0.05
"""Seconds that one repeat of a slow application takes; a quick one is done after `iterations` requests."""

Receive = Callable[[], Coroutine[None, None, Message]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, under which name."""

    name: str
    load: Callable[[], ASGIApp]
    task: Task = INVOKE


def subject(name: str) -> Subject:
    """Return the contender of that name."""
    contender = CONTENDERS[name]
    return Subject(name, contender.load, contender.task)


async def measure(subjects: Mapping[str, Subject], iterations: int, repeats: int) -> dict[str, float]:
    """Return seconds per request of each application: the best of `repeats`, interleaved."""
    async with AsyncExitStack() as stack:
        apps = {name: await stack.enter_async_context(running(one.load())) for name, one in subjects.items()}
        counts: dict[str, int] = {}
        for name, app in apps.items():
            task = subjects[name].task
            task.verify(name, *await call(app, task.path, task.request))
            first = await timed(app, task, 20)
            counts[name] = min(iterations, max(20, int(SLICE / first)))
        best = dict.fromkeys(apps, float("inf"))
        with frozen():
            for _ in range(repeats):
                for name, app in apps.items():
                    best[name] = min(best[name], await timed(app, subjects[name].task, counts[name]))
        return best


@contextmanager
def frozen() -> Iterator[None]:
    """Keep what was built so far out of the garbage collections to come; collections themselves stay on."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def timed(app: ASGIApp, task: Task, iterations: int) -> float:
    """Return the seconds that a request takes, as the mean of `iterations`."""
    scopes, receives = _requests(task, iterations)
    began = time.perf_counter()
    for request, receive in zip(scopes, receives, strict=True):
        await app(request, receive, _discard)
    return (time.perf_counter() - began) / iterations


def _requests(task: Task, count: int) -> tuple[list[Scope], list[Receive]]:
    """Return fresh requests, made before the clock starts: scopes are changed by what they pass through."""
    body = task.request

    def receiver() -> Receive:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # the client stays connected for as long as anybody asks
            raise AssertionError

        return receive

    return [scope(task.path, body) for _ in range(count)], [receiver() for _ in range(count)]


async def _discard(_message: Message) -> None:
    return
