import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from types import FrameType

import pytest

from asgipipe import Deployment
from asgipipe.http.drain import noticing_signals
from asgipipe.http.lifecycle import Lifecycle, State
from asgipipe.servers.application import ServedApplication
from tests.http.wire import until

received: list[int] = []


def host(number: int, _frame: FrameType | None) -> None:
    received.append(number)


def other(number: int, _frame: FrameType | None) -> None:
    received.append(-number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    received.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, host)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Watched(Lifecycle):
    """A lifecycle with nothing in it; `cancelled` tells why its runs were, `held` whether somebody will stop it."""

    def __init__(self, *, held: bool = True) -> None:
        self.cancelled: list[str] = []
        super().__init__(self._nothing, self.cancelled.append)
        self._holders = int(held)

    @asynccontextmanager
    async def _nothing(self) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_host_is_told_at_once_and_new_work_refused(number: int) -> None:
    """The handler that was there is called within the signal, whatever is in flight."""

    async def run() -> None:
        lifecycle = Watched()
        lifecycle.active = 1
        with noticing_signals(lifecycle, 3600):
            signal.raise_signal(number)
            assert received == [number]
            assert lifecycle.draining
            signal.raise_signal(number)
            assert received == [number, number]
        assert lifecycle.cancelled == []

    asyncio.run(run())


def test_what_still_runs_after_the_timeout_is_cancelled() -> None:
    """Runs that outlive drain_timeout are cancelled; where nothing runs, nothing is."""

    async def run() -> None:
        busy, idle = Watched(), Watched()
        busy.active = 1
        with noticing_signals(busy, 0.01), noticing_signals(idle, 0.01):
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while not busy.cancelled:  # noqa: ASYNC110  # a list
                    await asyncio.sleep(0.005)
        assert idle.cancelled == []

    asyncio.run(run())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_may_stop_in_any_order(order: tuple[int, int]) -> None:
    """The one that still runs is still told, and the last one leaves the handlers as the first one found them."""

    async def run() -> None:
        lifecycles, stacks = (Watched(), Watched()), (ExitStack(), ExitStack())
        for lifecycle, stack in zip(lifecycles, stacks, strict=True):
            stack.enter_context(noticing_signals(lifecycle, 3600))
        first, second = order
        stacks[first].close()
        signal.raise_signal(signal.SIGTERM)
        assert not lifecycles[first].draining
        assert lifecycles[second].draining
        stacks[second].close()
        assert signal.getsignal(signal.SIGTERM) == host
        assert signal.getsignal(signal.SIGINT) == host
        assert received == [signal.SIGTERM]

    asyncio.run(run())


def test_a_handler_that_somebody_else_installed_stays() -> None:
    """What replaced ours is left alone; what stands in front of ours still reaches the host after the stop."""

    async def run() -> None:
        with noticing_signals(Watched(), 3600):
            ours = signal.getsignal(signal.SIGTERM)
            assert callable(ours)
            signal.signal(signal.SIGTERM, partial(ours))
            signal.signal(signal.SIGINT, other)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGTERM, -signal.SIGINT]

    asyncio.run(run())


def test_a_later_start_goes_in_front_of_what_replaced_the_earlier() -> None:
    """Where a server installs its handlers after the first deployment has started, the next one notices again."""

    async def run() -> None:
        first, second = Watched(), Watched()
        with noticing_signals(first, 3600):
            signal.signal(signal.SIGTERM, other)
            with noticing_signals(second, 3600):
                signal.raise_signal(signal.SIGTERM)
                assert first.draining
                assert second.draining
                assert received == [-signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == other

    asyncio.run(run())


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_signal_that_nobody_handles_is_left_alone(handler: signal.Handlers) -> None:
    """It ends the process at once, or is ignored: there is nothing to drain either way."""

    async def run() -> None:
        signal.signal(signal.SIGTERM, handler)
        with noticing_signals(Watched(), 3600):
            assert signal.getsignal(signal.SIGTERM) == handler

    asyncio.run(run())


def test_other_threads_install_nothing() -> None:
    """Python allows signal handlers in the main thread only."""

    async def run() -> None:
        with noticing_signals(Watched(), 3600):
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    assert seen == [host]


def hello() -> int:
    return 1


@pytest.mark.parametrize("served", [False, True])
def test_a_deployment_notices_unless_a_server_of_ours_drains_it(served: bool) -> None:
    """A started deployment stands in front of the host's handlers until its stop; a served one never does."""

    async def run() -> None:
        deployment = Deployment(hello, layers=())
        if served:
            ServedApplication([deployment])
        await deployment.start()
        assert (signal.getsignal(signal.SIGTERM) == host) is served
        await deployment.stop()
        assert signal.getsignal(signal.SIGTERM) == host

    asyncio.run(run())


async def stopped_by(lifecycle: Watched, timeout: float) -> None:
    """Start `lifecycle` as a request does, and wait until it has stopped."""
    await lifecycle.start_on_request()
    with noticing_signals(lifecycle, timeout):
        signal.raise_signal(signal.SIGTERM)
        assert received == []
        await until(lambda: received)
    assert lifecycle.state is State.STOPPED
    assert received == [signal.SIGTERM]


def test_what_a_request_started_stops_before_the_host_is_told() -> None:
    """Its host sends no lifespan events, so nobody else would stop it, and after the signal it may be too late."""
    asyncio.run(stopped_by(Watched(held=False), 3600))


def test_it_does_not_wait_for_ever() -> None:
    """What is still in flight after the time of a drain is cancelled, and then everything is stopped."""

    async def run() -> None:
        lifecycle = Watched(held=False)
        lifecycle.active = 1
        await stopped_by(lifecycle, 0.01)
        assert lifecycle.cancelled

    asyncio.run(run())


def test_a_second_signal_is_passed_on_at_once() -> None:
    """Whoever sends it does not want to wait."""

    async def run() -> None:
        lifecycle = Watched(held=False)
        lifecycle.active = 1
        await lifecycle.start_on_request()
        with noticing_signals(lifecycle, 3600):
            signal.raise_signal(signal.SIGTERM)
            assert received == []
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
            lifecycle.active = 0
            lifecycle.request_ended()
            await until(lambda: lifecycle.state is State.STOPPED)

    asyncio.run(run())
