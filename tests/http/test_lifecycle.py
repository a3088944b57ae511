import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from asgipipe.errors import StartupError, UnavailableError
from asgipipe.http.lifecycle import Lifecycle, State
from tests.http.wire import until


class Resources:
    """Counts how often they were opened and closed, and by which task; `fail` raises, `gate` delays."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.tasks: list[asyncio.Task[object] | None] = []
        self.error: BaseException | None = None
        self.error_on_close: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.closing_gate: asyncio.Event | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[dict[str, int]]:
        self.opened += 1
        self.tasks.append(asyncio.current_task())
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        try:
            yield {"number": self.opened}
        finally:
            self.tasks.append(asyncio.current_task())
            if self.closing_gate is not None:
                await self.closing_gate.wait()
            self.closed += 1
            if self.error_on_close is not None:
                raise self.error_on_close


def lifecycle(resources: Resources, cancel: Callable[[str], None] = lambda _: None) -> Lifecycle:
    return Lifecycle(resources, cancel)


def test_start_and_stop() -> None:
    """The resources are entered and left once, by one task that is neither the starter's nor the stopper's."""

    async def main() -> None:
        resources = Resources()
        life = lifecycle(resources)
        assert (life.state, life.started, life.ready) == (State.NEW, False, False)
        assert await life.start() == {"number": 1}
        assert (life.state, life.started, life.ready) == (State.STARTED, True, True)
        await asyncio.create_task(life.stop())
        assert (life.state, life.started, life.ready) == (State.STOPPED, False, False)
        assert (resources.opened, resources.closed) == (1, 1)
        assert resources.tasks[0] is resources.tasks[1]
        assert resources.tasks[0] is not asyncio.current_task()

    asyncio.run(main())


def test_concurrent_first_starts_share_one_attempt() -> None:
    """A hundred first requests start the deployment once."""

    async def main() -> None:
        resources = Resources()
        resources.gate = asyncio.Event()
        life = lifecycle(resources)
        starters = [asyncio.create_task(life.ensure_started()) for _ in range(100)]
        await until(lambda: resources.opened)
        assert life.state is State.STARTING
        assert not life.ready
        resources.gate.set()
        assert {str(value) for value in await asyncio.gather(*starters)} == {"{'number': 1}"}
        await life.stop()
        assert (resources.opened, resources.closed) == (1, 1)

    asyncio.run(main())


def test_each_start_needs_its_stop() -> None:
    """A deployment that two hosts started is stopped by the last of them, and a stop too many does nothing."""

    async def main() -> None:
        resources = Resources()
        life = lifecycle(resources)
        await asyncio.gather(life.start(), life.start())
        await life.stop()
        assert life.started
        await life.stop()
        assert life.state is State.STOPPED
        await life.stop()
        assert (resources.opened, resources.closed) == (1, 1)

    asyncio.run(main())


def test_a_cancelled_starter_does_no_harm() -> None:
    """The start goes on when the request that asked for it is cancelled, also when it was the only one."""

    async def main() -> None:
        resources = Resources()
        resources.gate = asyncio.Event()
        life = lifecycle(resources)
        starter = asyncio.create_task(life.start())
        await until(lambda: resources.opened)
        starter.cancel()
        await asyncio.wait([starter])
        assert starter.cancelled()
        resources.gate.set()
        await until(lambda: life.started)
        await life.start()
        await life.stop()
        assert (resources.opened, resources.closed) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("error", [StartupError("no model"), ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_a_failing_start_is_told_to_everyone_and_can_be_tried_again(error: BaseException) -> None:
    """All who wait for an attempt get its error; the next start is a new attempt."""

    async def main() -> None:
        resources = Resources()
        resources.error = error
        resources.gate = asyncio.Event()
        life = lifecycle(resources)

        async def start() -> BaseException | None:
            try:
                await life.start()
            except BaseException as raised:  # SystemExit would end the loop
                return raised
            return None

        starters = [asyncio.create_task(start()) for _ in range(3)]
        await until(lambda: resources.opened)
        resources.gate.set()
        assert await asyncio.gather(*starters) == [error] * 3
        assert (life.state, life.ready) == (State.FAILED, False)
        resources.error = None
        assert await life.start() == {"number": 2}
        await life.stop()
        assert (resources.opened, resources.closed) == (2, 1)

    asyncio.run(main())


def test_a_failed_start_takes_no_part_in_the_stops() -> None:
    """Only starts that succeeded are counted."""

    async def main() -> None:
        resources = Resources()
        resources.error = StartupError("x")
        life = lifecycle(resources)
        with pytest.raises(StartupError):
            await life.start()
        resources.error = None
        await life.start()
        await life.stop()
        assert life.state is State.STOPPED

    asyncio.run(main())


def test_stop_waits_until_everything_is_closed() -> None:
    """When `stop` returns, nothing is left open."""

    async def main() -> None:
        resources = Resources()
        resources.closing_gate = asyncio.Event()
        life = lifecycle(resources)
        await life.start()
        stopping = asyncio.create_task(life.stop())
        await until(lambda: life.state is State.STOPPING)
        assert not life.ready
        assert not stopping.done()
        resources.closing_gate.set()
        await stopping
        assert resources.closed == 1

    asyncio.run(main())


def test_stop_during_the_start() -> None:
    """A stop that comes while the resources are still being opened closes them as soon as they are."""

    async def main() -> None:
        resources = Resources()
        resources.gate = asyncio.Event()
        life = lifecycle(resources)
        starter = asyncio.create_task(life.ensure_started())
        await until(lambda: resources.opened)
        stopper = asyncio.create_task(life.stop())
        await asyncio.sleep(0)
        resources.gate.set()
        await asyncio.gather(starter, stopper)
        assert life.state is State.STOPPED
        assert (resources.opened, resources.closed) == (1, 1)

    asyncio.run(main())


def test_stop_without_a_start() -> None:
    """There is nothing to stop."""

    async def main() -> None:
        resources = Resources()
        await lifecycle(resources).stop()
        assert resources.opened == 0

    asyncio.run(main())


def test_an_error_while_closing_is_raised_by_stop() -> None:
    """It is not lost, and the state is the truth."""

    async def main() -> None:
        resources = Resources()
        resources.error_on_close = ValueError("stuck")
        life = lifecycle(resources)
        await life.start()
        with pytest.raises(ValueError, match="stuck"):
            await life.stop()
        assert (life.state, life.ready) == (State.STOPPED, False)

    asyncio.run(main())


def test_a_second_life() -> None:
    """After a stop, a start is a new one, as tests and reloading hosts need it."""

    async def main() -> None:
        resources = Resources()
        life = lifecycle(resources)
        for number in (1, 2):
            assert await life.start() == {"number": number}
            await life.stop()
        assert (resources.opened, resources.closed) == (2, 2)

    asyncio.run(main())


def test_draining() -> None:
    """It is not ready any more, also when the start only ends afterwards, and tells when no request is in progress."""

    async def main() -> None:
        resources = Resources()
        life = lifecycle(resources)
        await life.start()
        life.active = 2
        life.begin_drain()
        assert (life.ready, life.draining, life.started) == (False, True, True)
        drained = [asyncio.create_task(life.drained()) for _ in range(2)]
        for left in (1, 0):
            await asyncio.sleep(0)
            assert not any(task.done() for task in drained)
            life.active = left
            life.request_ended()
        await asyncio.wait_for(asyncio.gather(*drained), 5)
        with pytest.raises(UnavailableError):
            await life.start_on_request()

    asyncio.run(main())


def test_a_drain_before_the_end_of_the_start() -> None:
    """A server that is told to stop while it starts never becomes ready."""

    async def main() -> None:
        resources = Resources()
        resources.gate = asyncio.Event()
        life = lifecycle(resources)
        starter = asyncio.create_task(life.start())
        await until(lambda: resources.opened)
        life.begin_drain()
        resources.gate.set()
        await starter
        assert not life.ready
        await life.stop()

    asyncio.run(main())


def test_drained_at_once_when_nothing_is_in_progress() -> None:
    """There is nothing to wait for."""
    asyncio.run(lifecycle(Resources()).drained())


def test_abandoning_cancels_the_runs() -> None:
    """What is still running when the time is up is cancelled, with the reason."""
    reasons: list[str] = []
    asyncio.run(lifecycle(Resources(), reasons.append).abandon())
    assert reasons == ["the server is stopping"]


def test_a_failing_start_on_request_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every request that waited for the attempt is a 503; the log has one line for it, and one for the next attempt."""

    async def main() -> None:
        resources = Resources()
        resources.error = StartupError("no model")
        life = lifecycle(resources)
        refused = await asyncio.gather(*(life.start_on_request() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(error, UnavailableError) for error in refused)
        assert len(caplog.records) == 1
        assert "no model" in caplog.text
        resources.error = StartupError("no model again")
        with pytest.raises(UnavailableError):
            await life.start_on_request()
        assert len(caplog.records) == 2

    asyncio.run(main())
