import asyncio
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from asgipipe.servers.drain import HURRY, Drain


class Lifecycle:
    """One request in flight, until it is released or abandoned."""

    def __init__(self, *, ends_when_abandoned: bool = True, jobs: int = 0) -> None:
        self.active = 1
        self.jobs = jobs
        self.draining = False
        self.abandoned = False
        self._ends_when_abandoned = ends_when_abandoned
        self._idle = asyncio.Event()

    def begin_drain(self) -> None:
        self.draining = True

    def release(self) -> None:
        self.active = 0
        self._idle.set()

    async def drained(self) -> None:
        await self._idle.wait()

    async def abandon(self) -> None:
        self.abandoned = True
        if self._ends_when_abandoned:
            self.release()


class Server:
    """Stands for the server's own handlers, and says when they were called."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.told = asyncio.Event()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        self.told.set()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = {signal.SIGTERM, signal.SIGINT, HURRY}
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def server() -> Server:
    made = Server()
    for number in (signal.SIGTERM, signal.SIGINT, HURRY):
        signal.signal(number, made.handle)
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_is_told_when_nothing_is_in_flight(number: int) -> None:
    """The first signal refuses new work at once; the server's handler gets it after the last request ended."""

    async def run() -> None:
        told, lifecycle = server(), Lifecycle()
        drain = Drain([lifecycle], timeout=3600)
        assert drain.install()
        signal.raise_signal(number)
        await asyncio.sleep(0)
        assert lifecycle.draining
        assert told.received == []
        lifecycle.release()
        await told.told.wait()
        assert told.received == [number]
        assert not drain.cut

    asyncio.run(run())


@pytest.mark.parametrize("ends", [True, False])
def test_what_outlives_the_timeout_is_cut(ends: bool) -> None:
    """Runs that go on are abandoned, and the server is told even when they do not stop."""

    async def run() -> None:
        told, lifecycle = server(), Lifecycle(ends_when_abandoned=ends)
        drain = Drain([lifecycle], timeout=0.01)
        drain.install()
        signal.raise_signal(signal.SIGTERM)
        await told.told.wait()
        assert lifecycle.abandoned
        assert drain.cut

    asyncio.run(run())


def test_jobs_that_outlive_the_timeout_are_not_cut() -> None:
    """A job is handed back at the end of the drain, so nothing was lost of it."""

    async def run() -> None:
        told, lifecycle = server(), Lifecycle(jobs=1)
        drain = Drain([lifecycle], timeout=0.01)
        drain.install()
        signal.raise_signal(signal.SIGTERM)
        await told.told.wait()
        assert lifecycle.abandoned
        assert not drain.cut

    asyncio.run(run())


def test_a_second_signal_goes_to_the_server_at_once() -> None:
    """The second signal does not wait for what is in flight."""

    async def run() -> None:
        told, lifecycle = server(), Lifecycle()
        drain = Drain([lifecycle], timeout=3600)
        drain.install()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await told.told.wait()
        assert told.received == [signal.SIGINT]
        assert drain.cut

    asyncio.run(run())


def test_a_supervised_process_listens_to_its_parent_alone() -> None:
    """SIGINT and repeated SIGTERMs mean nothing more there; the signal to hurry does."""

    async def run() -> None:
        told, lifecycle = server(), Lifecycle()
        drain = Drain([lifecycle], timeout=3600)
        drain.supervised = True
        drain.install()
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        assert not lifecycle.draining
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
        assert lifecycle.draining
        assert told.received == []
        signal.raise_signal(HURRY)
        await told.told.wait()
        assert told.received == [signal.SIGTERM]

    asyncio.run(run())


def test_a_signal_while_starting_stops_the_start() -> None:
    """Before the application serves there is nothing to drain."""

    async def run() -> None:
        told, stopped = server(), []
        drain = Drain([Lifecycle()], timeout=3600)
        drain.while_starting = lambda: stopped.append(True)
        drain.install()
        signal.raise_signal(signal.SIGTERM)
        await told.told.wait()
        assert stopped == [True]
        assert not drain.cut

    asyncio.run(run())


def test_the_handlers_that_were_there_come_back() -> None:
    """After `restore` the server's handlers are in place, and one that somebody else installed since is kept."""

    async def run() -> None:
        told = server()
        drain = Drain([], timeout=1)
        drain.install()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        drain.restore()
        assert signal.getsignal(signal.SIGTERM) == told.handle
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    asyncio.run(run())


def test_nothing_is_installed_outside_the_main_thread() -> None:
    """Python allows signal handlers in the main thread only; elsewhere the server's own stay."""
    installed: list[bool] = []

    async def run() -> None:
        installed.append(Drain([], timeout=1).install())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    assert installed == [False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_first_signal_is_noticed_even_when_the_loop_is_blocked() -> None:
    """`on_signal` is called in the handler itself, once: it guards against loops that never come back."""

    async def run() -> None:
        told, noticed = server(), []
        drain = Drain([], timeout=1)
        drain.on_signal = lambda: noticed.append(True)
        drain.install()
        signal.raise_signal(signal.SIGTERM)
        assert noticed == [True]
        signal.raise_signal(signal.SIGTERM)
        assert noticed == [True]
        await told.told.wait()

    asyncio.run(run())
