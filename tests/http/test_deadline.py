import asyncio

import pytest

from asgipipe.http.deadline import within


def test_what_is_there_at_once_arms_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that never suspends is returned without a timer."""

    async def work() -> str:
        return "done"

    async def run() -> str:
        monkeypatch.setattr(asyncio, "timeout", None)
        return await within(1.0, work())

    assert asyncio.run(run()) == "done"


def test_work_that_suspends_returns_its_value() -> None:
    """Work that suspends several times gets what it awaits, also exceptions, and returns its value."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("inside")

    async def work() -> list[object]:
        await asyncio.sleep(0)
        value = await asyncio.get_running_loop().run_in_executor(None, lambda: 7)
        with pytest.raises(LookupError):
            await asyncio.create_task(fail())
        return [value]

    assert asyncio.run(within(30, work())) == [7]


def test_late_work_is_cancelled() -> None:
    """Work past its deadline is cancelled where it waits, and TimeoutError is raised."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def run() -> int:
        with pytest.raises(TimeoutError):
            await within(0.01, work())
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(run()) == 0
    assert seen == ["cancelled"]


def test_an_error_made_of_the_cancellation_is_still_a_timeout() -> None:
    """Work that answers its cancellation with an error of its own has timed out all the same."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("cleaning up failed") from None

    with pytest.raises(TimeoutError):
        asyncio.run(within(0.01, work()))


def test_an_error_of_the_work_passes() -> None:
    """An error in time is raised as it is, before and after the first suspension."""

    async def early() -> None:
        raise LookupError

    async def late() -> None:
        await asyncio.sleep(0)
        raise LookupError

    for work in (early(), late()):
        with pytest.raises(LookupError):
            asyncio.run(within(30, work))


def test_cancellation_from_outside_reaches_the_work() -> None:
    """Cancelling the caller cancels the suspended work, and is no timeout."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned")

    async def run() -> None:
        task = asyncio.create_task(within(30, work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert seen == ["cleaned"]


def test_work_may_swallow_a_cancellation_and_go_on() -> None:
    """Work that catches a cancellation and awaits again is carried on with."""

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    async def run() -> str:
        task = asyncio.create_task(within(30, work()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(run()) == "went on"
