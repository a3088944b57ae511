import asyncio
import contextvars
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from asgipipe.pipelines.executor import Call, ThreadExecutor

PATIENCE = 30.0
"""Seconds until something that normally takes milliseconds is given up."""


@asynccontextmanager
async def started(size: int) -> AsyncIterator[ThreadExecutor]:
    executor = ThreadExecutor(size, name="test")
    executor.start()
    try:
        yield executor
    finally:
        executor.stop(PATIENCE)


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("test-")]


def keep_busy_until_ended(executor: ThreadExecutor, call: Call[object]) -> None:
    """Hold the event loop until a thread has ended the call, so that it is not told before that."""
    until = time.monotonic() + PATIENCE
    while call not in vars(executor)["_ended"]:
        assert time.monotonic() < until
        time.sleep(0.001)


class Ends:
    """Collects the calls that have ended, in the order in which the event loop is told."""

    def __init__(self, count: int) -> None:
        self.calls: list[Call[object]] = []
        self.threads: set[threading.Thread] = set()
        self._count = count
        self._all = asyncio.Event()

    def __call__(self, call: Call[object]) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread())
        if len(self.calls) == self._count:
            self._all.set()

    async def all(self) -> None:
        await asyncio.wait_for(self._all.wait(), PATIENCE)


def test_a_call_gives_its_value_or_raises() -> None:
    """run() hands back what the function returned, None included, or raises what it raised, whatever that is."""

    def fail(error: BaseException) -> None:
        raise error

    async def main() -> None:
        async with started(2) as executor:
            assert await executor.run(lambda: 3) == 3
            assert await executor.run(lambda: None) is None
            for error in (ValueError("bad"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()):
                with pytest.raises(type(error)) as raised:
                    await executor.run(lambda error=error: fail(error))
                assert raised.value is error
            assert await executor.run(lambda: 4) == 4

    asyncio.run(main())


def test_ended_calls_are_delivered_on_the_loop_in_order() -> None:
    """Calls of one thread are told in the order of their end, all of them by the event loop's thread."""

    async def main() -> None:
        async with started(1) as executor:
            ends = Ends(500)
            calls = [executor.submit(lambda value=value: value, ends) for value in range(500)]
            await ends.all()
            assert ends.calls == calls
            assert [call.value for call in ends.calls] == [*range(500)]
            assert ends.threads == {threading.current_thread()}

    asyncio.run(main())


def test_many_ended_calls_wake_the_loop_once() -> None:
    """While the event loop is busy, any number of calls end for a single wake-up."""

    async def main() -> None:
        async with started(1) as executor:
            loop, ends, wakes = asyncio.get_running_loop(), Ends(100), list[Callable[..., object]]()
            original = loop.call_soon_threadsafe

            def counted(callback: Callable[..., object], *args: object, **kwargs: object) -> asyncio.Handle:
                wakes.append(callback)
                return original(callback, *args, **kwargs)

            loop.call_soon_threadsafe = counted
            keep_busy_until_ended(executor, [executor.submit(lambda: None, ends) for _ in range(100)][-1])
            await ends.all()
            assert [callback.__name__ for callback in wakes].count("_deliver") == 1

    asyncio.run(main())


def test_an_exception_in_on_end_keeps_nobody_else_waiting() -> None:
    """What one callback raises goes to the event loop's handler; the calls that ended with it are delivered."""
    reported: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async with started(1) as executor:
            ends = Ends(2)

            def broken(_: Call[object]) -> None:
                raise ValueError("broken")

            gate = threading.Event()
            executor.submit(gate.wait, broken)
            executor.submit(lambda: 1, ends)
            last = executor.submit(lambda: 2, ends)
            gate.set()
            keep_busy_until_ended(executor, last)  # so that all three are delivered at once
            await ends.all()

    asyncio.run(main())
    assert [str(error) for error in reported] == ["broken"]


def test_threads_are_started_when_calls_have_to_wait() -> None:
    """Short calls share a thread; calls that block get one each, up to the size and never more."""

    async def main() -> None:
        async with started(6) as executor:
            for _ in range(50):
                await executor.run(lambda: None)
            assert len(alive()) == 1
            barrier = threading.Barrier(6, timeout=PATIENCE)
            await asyncio.gather(*(executor.run(barrier.wait) for _ in range(6)))
            assert len(alive()) == 6
            gate = threading.Event()
            waiting = [asyncio.ensure_future(executor.run(gate.wait)) for _ in range(20)]
            await asyncio.sleep(0)
            done = executor.submit(lambda: None)
            await asyncio.sleep(0.05)  # longer than any call has to wait for another thread
            assert len(alive()) == 6
            assert not done.begun
            gate.set()
            await asyncio.gather(*waiting)
        assert alive() == []

    asyncio.run(main())


def test_calls_that_come_one_by_one_get_their_threads_too() -> None:
    """However the submissions are spread over the event loop's turns, every call that blocks gets a thread."""

    async def main() -> None:
        async with started(8) as executor:
            barrier = threading.Barrier(8, timeout=PATIENCE)

            async def late(turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0.001)
                await executor.run(barrier.wait)

            await asyncio.gather(*(late(turns) for turns in range(8)))

    asyncio.run(main())


def test_the_context_of_the_caller_is_carried() -> None:
    """A call sees the context variables of whoever submitted it, and what it sets stays its own."""
    variable = contextvars.ContextVar("variable", default="unset")

    def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    async def main() -> None:
        async with started(1) as executor:

            async def caller(value: str) -> str:
                variable.set(value)
                return await executor.run(change) + "/" + await executor.run(variable.get)

            assert await asyncio.gather(caller("a"), caller("b")) == ["a/a", "b/b"]
            assert variable.get() == "unset"

    asyncio.run(main())


def test_an_abandoned_call_that_has_not_begun_never_begins() -> None:
    """Whoever stops waiting for a queued call spares the thread the work; on_end is told all the same."""
    begun: list[int] = []

    async def main() -> None:
        async with started(1) as executor:
            gate, ends = threading.Event(), Ends(2)
            executor.submit(gate.wait, ends)
            abandoned = executor.submit(lambda: begun.append(1), ends)
            task = asyncio.ensure_future(executor.run(lambda: begun.append(2)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            abandoned.abandoned = True
            gate.set()
            await ends.all()
            assert ends.calls[1] is abandoned
            await executor.run(lambda: None)

    asyncio.run(main())
    assert begun == []


def test_a_call_runs_once_whoever_gets_it_first() -> None:
    """A caller may run its own call; the thread that finds it later passes over it."""
    ran: list[str] = []

    async def main() -> None:
        async with started(1) as executor:
            gate = threading.Event()
            executor.submit(gate.wait)
            call = executor.submit(lambda: ran.append(threading.current_thread().name))
            assert call.execute() is True
            assert call.execute() is False
            gate.set()
            await executor.run(lambda: None)

    asyncio.run(main())
    assert ran == [threading.current_thread().name]


def test_a_helper_holds_the_slot_of_its_thread() -> None:
    """A call left behind at its time limit keeps its thread from taking another one until it has really ended."""

    async def main() -> None:
        async with started(1) as executor:
            gate = threading.Event()
            assert await executor.run(lambda: executor.call_aside(gate.wait, 0.01)) is None
            waiting = executor.submit(lambda: None)
            await asyncio.sleep(0.05)
            assert not waiting.begun
            gate.set()
            await executor.run(lambda: None)
            assert waiting.begun

    asyncio.run(main())


def test_a_helper_of_a_helper_holds_the_slot_too() -> None:
    """A thread that was left behind by one that ended in time is not forgotten."""

    async def main() -> None:
        async with started(1) as executor:
            gate = threading.Event()
            inner: list[object] = []

            def nested() -> None:
                inner.append(executor.call_aside(gate.wait, 0.01))

            outer = await executor.run(lambda: executor.call_aside(nested, PATIENCE))
            assert outer is not None
            assert inner == [None]
            waiting = executor.submit(lambda: None)
            await asyncio.sleep(0.05)
            assert not waiting.begun
            gate.set()
            await executor.run(lambda: None)

    asyncio.run(main())


def test_a_call_aside_in_time_gives_its_value_or_error() -> None:
    """Within the limit it is a call like any other, with the context of the thread that asked for it."""
    variable = contextvars.ContextVar[str]("variable")

    def inside(executor: ThreadExecutor) -> list[object]:
        variable.set("mine")
        value, error = executor.call_aside(variable.get, PATIENCE), executor.call_aside(lambda: 1 / 0, PATIENCE)
        assert value is not None
        assert error is not None
        return [value.value, type(error.error)]

    async def main() -> None:
        async with started(1) as executor:
            assert await executor.run(lambda: inside(executor)) == ["mine", ZeroDivisionError]

    asyncio.run(main())


def test_ten_thousand_short_calls_beside_blocking_ones_all_end() -> None:
    """No wake-up is lost under load: from the loop and from threads, short, blocking and nested calls all come back."""

    async def main() -> None:
        async with started(8) as executor:
            ends = Ends(2 * 5000)

            def submit_all() -> None:
                for _ in range(5000):
                    executor.submit(lambda: None, ends)

            submitters = [asyncio.to_thread(submit_all) for _ in range(2)]
            barriers = [threading.Barrier(4, timeout=PATIENCE) for _ in range(20)]
            blocking = [executor.run(barrier.wait) for barrier in barriers for _ in range(4)]
            awaited = [executor.run(lambda value=value: value) for value in range(500)]
            results = await asyncio.wait_for(asyncio.gather(*awaited, *submitters, *blocking), PATIENCE)
            assert results[:500] == [*range(500)]
            await ends.all()
            assert len(alive()) <= 8

    asyncio.run(main())


def test_an_executor_can_be_started_again_on_another_loop() -> None:
    """Neither a thread that was busy at the stop nor a wake-up that its loop never got disturbs the next start."""
    executor, gates = ThreadExecutor(1, name="test"), [threading.Event() for _ in range(3)]

    async def main(gate: threading.Event) -> int:
        executor.start()
        assert await executor.run(lambda: 5) == 5
        executor.submit(gate.wait, lambda call: None)  # ends when this loop is closed
        executor.stop(0.01)
        return 1

    for gate in gates:
        asyncio.run(main(gate))
    for gate in gates:
        gate.set()

    async def last() -> int:
        executor.start()
        try:
            return sum(await asyncio.gather(*(executor.run(lambda: 1) for _ in range(10))))
        finally:
            executor.stop(PATIENCE)

    assert asyncio.run(asyncio.wait_for(last(), PATIENCE)) == 10


def test_before_the_start_there_is_nothing_to_run_on() -> None:
    """The loop of an executor that was not started is an error that says so; stopping it is none."""
    executor = ThreadExecutor(3)
    executor.stop()
    with pytest.raises(RuntimeError, match="the executor was not started"):
        _ = executor.loop


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_an_executor_made_before_a_fork_works_in_the_children() -> None:
    """Nothing of it is in use before start(), so parent and children each have threads of their own."""
    program = """
import asyncio, json, os, threading
from asgipipe.pipelines.executor import ThreadExecutor
executor = ThreadExecutor(4)
assert threading.active_count() == 1

async def work():
    executor.start()
    try:
        return await asyncio.gather(*(executor.run(lambda value=value: value * value) for value in range(100)))
    finally:
        executor.stop(30)

def check():
    return asyncio.run(asyncio.wait_for(work(), 30)) == [value * value for value in range(100)]

children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
print(json.dumps([check(), *statuses]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [True, 0, 0], done.stderr
