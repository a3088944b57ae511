import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asgipipe import Deployment, EndpointSpec, pipeline
from asgipipe.errors import TooManyRequestsError
from asgipipe.http.middleware.admission import Admission
from asgipipe.http.types import ASGIApp
from asgipipe.settings import EndpointMethod
from tests.conftest import PATIENCE
from tests.http.wire import Ask, Reply, http_scope, invoke, reply, until
from tests.running import started

LIMIT, QUEUE = 3, 4


@pipeline
async def gated(x: int = 1) -> int:
    running.append(x)
    await gates[-1].wait()
    return x


running: list[int] = []
gates: list[asyncio.Event] = []


@asynccontextmanager
async def gated_deployment(**settings: object) -> AsyncIterator[Deployment]:
    """A deployment whose runs all wait for `gates[-1]`."""
    running.clear()
    gates.append(asyncio.Event())
    async with started(gated, {"max_concurrency": LIMIT, "max_queue": QUEUE, **settings}) as deployment:
        yield deployment


def all_places_free(deployment: Deployment) -> bool:
    layer: object = deployment.asgi_app
    while not hasattr(layer, "_admission"):
        layer = getattr(layer, "app", None) or getattr(layer, "layers")  # noqa: B009  # known only at run time
    return bool(layer._admission.free == deployment.settings.max_concurrency)


def send(app: ASGIApp, *asked: Ask) -> list[asyncio.Task[Reply]]:
    return [asyncio.create_task(reply(app, each)) for each in asked]


def test_overload_is_answered_at_once() -> None:
    """Of N + Q + 50 requests exactly 50 are refused, with Retry-After, while the others wait; those all succeed."""

    async def main() -> None:
        async with gated_deployment() as deployment:
            tasks = send(deployment.asgi_app, *[invoke()] * (LIMIT + QUEUE + 50))
            await until(lambda: sum(task.done() for task in tasks) == 50)
            assert len(running) == LIMIT
            refused = [task.result() for task in tasks if task.done()]
            for each in refused:
                assert each.problem == {
                    "type": "urn:asgipipe:too-many-requests",
                    "title": "Too Many Requests",
                    "status": 429,
                    "detail": "The limits of concurrent and of waiting requests are reached.",
                }
                assert int(each.header(b"retry-after") or 0) >= 1
            gates[-1].set()
            answers = await asyncio.gather(*tasks)
            assert [each.status for each in answers].count(200) == LIMIT + QUEUE
            assert all_places_free(deployment)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics", "/status", "/openapi.json", "/docs"])
def test_reading_is_never_throttled(path: str) -> None:
    """Probes and what only reads is answered while everything else is refused."""

    async def main() -> None:
        async with gated_deployment() as deployment:
            tasks = send(deployment.asgi_app, *[invoke()] * (LIMIT + QUEUE + 1))
            await until(lambda: any(task.done() for task in tasks))
            for method in ("GET", "HEAD"):
                assert (await reply(deployment.asgi_app, Ask(method, path))).status == 200
            gates[-1].set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_custom_endpoints_are_throttled() -> None:
    """What a custom endpoint does is unknown, so it takes a place like a run."""

    def mine() -> int:
        return 1

    async def main() -> None:
        spec = EndpointSpec(path="/mine", method=EndpointMethod.GET, handler=mine)
        async with gated_deployment(custom_endpoints=[spec]) as deployment:
            tasks = send(deployment.asgi_app, *[invoke()] * (LIMIT + QUEUE))
            await until(lambda: len(running) == LIMIT)
            assert (await reply(deployment.asgi_app, Ask("GET", "/mine"))).status == 429
            gates[-1].set()
            await asyncio.gather(*tasks)
            assert (await reply(deployment.asgi_app, Ask("GET", "/mine"))).status == 200

    asyncio.run(main())


def test_without_a_key_nobody_takes_a_place() -> None:
    """Admission stands inside of auth: a flood without a key is a flood of 401."""

    async def main() -> None:
        async with gated_deployment(auth_key="k") as deployment:
            replies = await asyncio.gather(*send(deployment.asgi_app, *[invoke()] * 100))
            assert {each.status for each in replies} == {401}
            assert not running
            assert all_places_free(deployment)

    asyncio.run(main())


def test_the_queue_is_first_come_first_served() -> None:
    """Who waited longest is next."""

    async def main() -> None:
        async with gated_deployment(max_concurrency=1) as deployment:
            tasks = send(deployment.asgi_app, *[invoke({"parameters": {"x": x}}) for x in range(5)])
            await until(lambda: len(running) == 1)
            gates[-1].set()
            await asyncio.gather(*tasks)
            assert running == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_no_queue() -> None:
    """With `max_queue: 0` nobody waits."""

    async def main() -> None:
        async with gated_deployment(max_queue=0) as deployment:
            tasks = send(deployment.asgi_app, *[invoke()] * LIMIT)
            await until(lambda: len(running) == LIMIT)
            assert (await reply(deployment.asgi_app, invoke())).status == 429
            gates[-1].set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    """A waiting request that the server cancels makes room in the queue, and takes no place."""

    async def main() -> None:
        async with gated_deployment() as deployment:
            app = deployment.asgi_app
            working = send(app, *[invoke()] * LIMIT)
            await until(lambda: len(running) == LIMIT)
            waiting = [
                asyncio.create_task(app(http_scope(invoke()), asyncio.Queue().get, _nothing)) for _ in range(QUEUE)
            ]
            await asyncio.sleep(0)
            assert (await reply(app, invoke())).status == 429
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            later = send(app, *[invoke()] * QUEUE)
            gates[-1].set()
            assert {each.status for each in await asyncio.gather(*working, *later)} == {200}
            assert all_places_free(deployment)

    asyncio.run(main())


async def _nothing(message: object) -> None:
    raise AssertionError("who waits is not answered")


@pytest.mark.parametrize(
    "asked", [invoke(b"{"), invoke({"parameters": {"y": 1}}), Ask("GET", "/invoke"), Ask("POST", "/nothing")]
)
def test_a_refusal_gives_its_place_back(asked: Ask) -> None:
    """Whatever becomes of a request, its place is free afterwards."""

    async def main() -> None:
        async with gated_deployment(max_concurrency=1, max_queue=0) as deployment:
            for _ in range(3):
                assert (await reply(deployment.asgi_app, asked)).status < 500
            assert all_places_free(deployment)

    asyncio.run(main())


def test_a_thread_left_behind_keeps_its_place() -> None:
    """A sync run past its deadline is answered at once; its place is free again when its thread has really ended."""
    release, entered = threading.Event(), threading.Event()

    def slow(x: int = 1) -> int:
        entered.set()
        release.wait(PATIENCE)
        return x

    async def main() -> None:
        settings = {"max_concurrency": 1, "max_queue": 0, "thread_pool_size": 1}
        async with started(slow, settings) as deployment:
            late = await reply(deployment.asgi_app, invoke({"timeout": 0.05}))
            assert late.status == 504
            assert entered.is_set()
            assert not all_places_free(deployment)
            assert (await reply(deployment.asgi_app, invoke())).status == 429
            assert (await reply(deployment.asgi_app, Ask("GET", "/health"))).status == 200
            release.set()
            await until(lambda: all_places_free(deployment))
            assert (await reply(deployment.asgi_app, invoke())).status == 200

    asyncio.run(main())


# The counter itself


def test_a_place_handed_over_in_the_moment_of_a_cancellation() -> None:
    """The place goes to the next one who waits, not nowhere."""

    async def main() -> None:
        admission = Admission(1, 2)
        admission.free -= 1
        first, second = (asyncio.create_task(admission.wait()) for _ in range(2))
        await asyncio.sleep(0)
        admission.leave()
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert not second.cancelled()
        admission.leave()
        assert admission.free == 1

    asyncio.run(main())


def test_a_full_queue_raises() -> None:
    """Whoever finds the queue full does not wait."""

    async def main() -> None:
        admission = Admission(1, 0)
        with pytest.raises(TooManyRequestsError):
            await admission.wait()

    asyncio.run(main())
