import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from asgipipe import OutputError, RunError, get_step_context, pipeline, step
from asgipipe.errors import UnavailableError
from asgipipe.jobs.recording import MAX_DELTA, Recording
from asgipipe.jobs.records import Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import StaleAttemptError
from asgipipe.pipelines.context import Run, Status
from tests.http.wire import until
from tests.jobs.claimed import Bench, bench
from tests.running import started


def recording(
    desk: Bench, job: Job, *, capacity: int = 10_000, on_stale: Callable[[], object] = lambda: None
) -> Recording:
    return Recording(job, desk.store, desk.hub, asyncio.get_running_loop(), capacity=capacity, on_stale=on_stale)


async def recorded(desk: Bench, job: Job, target: object, *, capacity: int = 10_000) -> Run:
    """Run a pipeline as an attempt of the job."""
    listener = recording(desk, job, capacity=capacity)
    async with started(target) as deployment:
        run = await deployment.service.invoke({}, run_id=job.id, listener=listener)
    await listener.flush()
    listener.take()
    return run


class Gate:
    """Holds the appends of a store back until it is opened; counts them."""

    def __init__(self, desk: Bench) -> None:
        self.opened = asyncio.Event()
        self.sizes: list[int] = []
        append = desk.store.append

        async def held(job_id: str, attempt: int, events: list[object], **others: object) -> None:
            self.sizes.append(len(events))
            await self.opened.wait()
            await append(job_id, attempt, events, **others)  # type: ignore[arg-type]

        desk.store.append = held  # type: ignore[method-assign,assignment]


def test_events_are_numbered_durable_and_published() -> None:
    """What is told is stored under the numbers that follow the job's last one, and followers get it after that."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)
            stream = desk.hub.follow(job.id)
            told("step_started", "a", {"attempt": 1})
            told("progress", "a", {"fraction": 0.5, "message": "half", "step_name": "a"})
            got = [*await anext(stream)]
            while len(got) < 2:
                got += await anext(stream)
            assert got == await desk.stored(job.id)
            assert [(event.id, event.type, event.step_name) for event in got] == [
                (1, "step_started", "a"),
                (2, "progress", "a"),
            ]
            kept = await desk.store.get(job.id)
            assert kept is not None
            assert json.loads(kept.progress or b"") == {"fraction": 0.5, "message": "half", "step_name": "a"}
            await stream.aclose()

    asyncio.run(main())


def test_one_group_is_written_while_the_next_one_gathers() -> None:
    """Whatever is told while events are being written goes into one further write."""

    async def main() -> None:
        async with bench() as desk:
            gate = Gate(desk)
            told = recording(desk, await desk.claimed())
            told("log", None, {"message": "0"})
            await until(lambda: gate.sizes)
            for number in range(1, 100):
                told("log", None, {"message": str(number)})
            gate.opened.set()
            await told.flush()
            assert gate.sizes == [1, 99]

    asyncio.run(main())


def test_threads_tell_at_the_same_time() -> None:
    """Events of many threads have numbers without gaps, and those of each thread are in its order."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)

            def tell(name: str) -> None:
                for number in range(200):
                    told("output_delta", name, {"delta": number})

            await asyncio.gather(*(asyncio.to_thread(tell, str(thread)) for thread in range(8)))
            await told.flush()
            events = await desk.stored(job.id)
            assert [event.id for event in events] == list(range(1, 1601))
            for thread in range(8):
                deltas = [json.loads(event.data)["delta"] for event in events if event.step_name == str(thread)]
                assert deltas == list(range(200))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "a delta of step 'a', of type object, is not serialisable as JSON"),
        ("\ud800", "a delta of step 'a', of type str, is not serialisable as JSON"),
        ("x" * MAX_DELTA, "a delta of step 'a' has 1048588 bytes of JSON; 1048576 are the most: send several"),
    ],
    ids=["no JSON form", "lone surrogate", "too large"],
)
def test_a_delta_that_cannot_be_kept_is_an_error_where_it_is_told(value: object, said: str) -> None:
    """OutputError names the step and the type, never the value; no number is used up."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)
            with pytest.raises(OutputError) as caught:
                told("output_delta", "a", {"delta": value})
            assert str(caught.value) == said
            told("output_delta", "a", {"delta": float("nan")})
            await told.flush()
            assert [(event.id, event.data) for event in await desk.stored(job.id)] == [(1, b'{"delta":null}')]

    asyncio.run(main())


def test_messages_are_bounded_and_have_a_utf8_form() -> None:
    """Of a message at most 2000 characters are kept, and lone surrogates become question marks."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)
            told("log", None, {"message": "\ud800" + "x" * 5000})
            await told.flush()
            (event,) = await desk.stored(job.id)
            assert json.loads(event.data)["message"] == f"?{'x' * 1999}… (5001 characters)"

    asyncio.run(main())


def test_a_thread_waits_while_too_many_events_wait() -> None:
    """A sync pipeline that tells faster than can be stored is held up, and loses nothing."""

    async def main() -> None:
        async with bench() as desk:
            job, gate, told = await desk.claimed(), Gate(desk), 0

            @pipeline
            def target() -> None:
                nonlocal told
                for number in range(100):
                    get_step_context().emit(number)
                    told += 1

            task = asyncio.create_task(recorded(desk, job, target, capacity=10))
            await until(lambda: told == 10)
            await asyncio.sleep(0.05)
            assert told == 10
            gate.opened.set()
            assert (await task).status is Status.COMPLETED
            assert [event.id for event in await desk.stored(job.id)] == list(range(1, 101))

    asyncio.run(main())


def test_a_thread_that_waits_for_room_is_cancelled_there() -> None:
    """A cancelled run does not wait for a store that cannot be written."""

    async def main() -> None:
        async with bench() as desk, started(telling) as deployment:
            job, gate = await desk.claimed(), Gate(desk)
            told = recording(desk, job, capacity=10)
            task = asyncio.create_task(deployment.service.invoke({}, run_id=job.id, listener=told))
            await until(lambda: gate.sizes and len(told._waiting) == 10)
            deployment.service.cancel(job.id, "enough")
            assert (await task).status is Status.CANCELED
            await until(ended.is_set)
            gate.opened.set()
            await told.flush()
            told.take()

    ended = threading.Event()

    @pipeline
    def telling() -> None:
        try:
            for number in range(100):
                get_step_context().emit(number)
        finally:
            ended.set()

    asyncio.run(main())


@step
async def numbers():  # type: ignore[no-untyped-def]
    for number in range(300):
        yield number


@step
async def check(number: int) -> None: ...


@pipeline
async def awaits() -> None:
    await numbers()


@pipeline
async def iterates() -> None:
    async for _ in numbers():
        pass


@pipeline
async def yields():  # type: ignore[no-untyped-def]
    for number in range(300):
        yield number


@pipeline
async def calls() -> None:
    for number in range(300):
        await check(number)


def test_async_generators_wait_for_room() -> None:
    """Async code that streams, or awaits its steps, never has more events waiting than there is room for."""
    most = 0

    async def main() -> None:
        nonlocal most
        async with bench() as desk:
            append = desk.store.append

            async def watched(job_id: str, attempt: int, events: list[object], **others: object) -> None:
                nonlocal most
                most = max(most, len(events))
                await append(job_id, attempt, events, **others)  # type: ignore[arg-type]

            desk.store.append = watched  # type: ignore[method-assign,assignment]
            for target in (awaits, iterates, yields, calls):
                most, job = 0, await desk.claimed()
                run = await recorded(desk, job, target, capacity=10)
                assert run.status is Status.COMPLETED, run.error
                assert len(await desk.stored(job.id)) >= 300
                assert most <= 12, target.name

    asyncio.run(main())


def test_code_that_never_awaits_is_told_that_it_cannot_wait() -> None:
    """A pipeline that runs in place fails when it tells more than can be held."""

    @pipeline(blocking=False)
    def target() -> None:
        for number in range(1000):
            get_step_context().emit(number)

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            run = await recorded(desk, job, target, capacity=10)
            assert isinstance(run.error, RunError)
            assert str(run.error).startswith("100 events wait to be stored: code on the event loop has to await")
            assert len(await desk.stored(job.id)) == 100

    asyncio.run(main())


def test_a_store_that_cannot_be_written_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are kept and written once the store is there again; nothing is lost or doubled."""
    monkeypatch.setattr("asgipipe.jobs.recording._DELAYS", (0.001, 0.01))

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            append, failures = desk.store.append, 5

            async def away(job_id: str, attempt: int, events: list[object], **others: object) -> None:
                nonlocal failures
                failures -= 1
                if failures % 2:
                    await append(job_id, attempt, events, **others)  # type: ignore[arg-type]
                if failures >= 0:
                    raise UnavailableError("the outcome is not known")

            desk.store.append = away  # type: ignore[method-assign,assignment]
            told = recording(desk, job)
            for number in range(10):
                told("log", None, {"message": str(number)})
            failures = 4
            await told.flush()
            assert [event.id for event in await desk.stored(job.id)] == list(range(1, 11))

    asyncio.run(main())


def test_a_stale_attempt_is_told_once_and_heard_no_more() -> None:
    """When another worker has the job, whoever runs it here is called, and nothing more is written."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            calls: list[str] = []
            told = recording(desk, job, on_stale=lambda: calls.append("stale"))
            await desk.store.put_back(job.id, job.attempt, due_at=0.0, failed=False, events=[])
            told("log", None, {"message": "late"})
            kept = told.keep((0, "a", b"1"))
            await told.flush()
            told("log", None, {"message": "later"})
            assert calls == ["stale"]
            assert kept.cancelled()
            assert told.keep((0, "a", b"1")).cancelled()
            assert await desk.stored(job.id) == []

    asyncio.run(main())


def test_what_is_not_written_goes_with_the_end_of_the_job() -> None:
    """`take` hands out the events that are still waiting, also those in flight, and the terminal one follows them."""

    async def main() -> None:
        async with bench() as desk:
            gate = Gate(desk)
            job = await desk.claimed()
            told = recording(desk, job)
            follower = asyncio.create_task(anext(desk.hub.follow(job.id)))
            told("log", None, {"message": "in flight"})
            await until(lambda: gate.sizes)
            told("log", None, {"message": "waits"})
            gate.opened.set()
            events = told.take()
            events.append(told.terminal(JobState.COMPLETED, b"{}"))
            assert [(event.id, event.type) for event in events] == [(1, "log"), (2, "log"), (3, "pipeline_completed")]
            told("log", None, {"message": "not heard"})
            await desk.store.finish(
                job.id,
                job.attempt,
                JobState.COMPLETED,
                result=b"{}",
                error=None,
                error_code=None,
                execution_time=0.0,
                events=events,
            )
            assert await desk.stored(job.id) == events
            await follower

    asyncio.run(main())


def test_results_are_durable_when_they_are_said_to_be() -> None:
    """The future of a kept result is done after the events that were told before it and the result are stored."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)
            told("log", None, {"message": "before"})
            kept: Future[None] = told.keep((0, "a", b"1"))
            await asyncio.wrap_future(kept)
            assert await desk.store.results(job.id) == {(0, "a"): b"1"}
            assert len(await desk.stored(job.id)) == 1

    asyncio.run(main())


def test_a_result_is_not_written_before_the_events_that_were_told_before_it() -> None:
    """With more events than one write takes, the result goes with the last of them."""

    async def main() -> None:
        async with bench() as desk:
            job, gate = await desk.claimed(), Gate(desk)
            told = recording(desk, job)
            for number in range(2500):
                told("output_delta", None, {"delta": number})
            kept = told.keep((0, "a", b"1"))
            counts: list[int] = []
            kept.add_done_callback(lambda _: counts.append(sum(gate.sizes)))
            gate.opened.set()
            await told.flush()
            assert counts == [2500]

    asyncio.run(main())


def test_error_messages_can_be_kept_out_of_events() -> None:
    """With error_messages off, an event says that a step failed, and not with what."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = Recording(job, desk.store, desk.hub, asyncio.get_running_loop(), error_messages=False)
            told("step_failed", "a", {"attempt": 1, "error": "the password is 1234"})
            await told.flush()
            (event,) = await desk.stored(job.id)
            assert json.loads(event.data) == {"attempt": 1, "error": "the step failed"}

    asyncio.run(main())


def test_the_next_attempt_counts_on() -> None:
    """The events of a later attempt have the numbers after those of the earlier ones."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            told = recording(desk, job)
            told("log", None, {"message": "first"})
            await desk.store.put_back(job.id, job.attempt, due_at=0.0, failed=False, events=told.take())
            again = await desk.store.claim_one(desk.worker, job.id)
            assert again is not None
            told = recording(desk, again)
            told("log", None, {"message": "second"})
            await told.flush()
            with pytest.raises(StaleAttemptError):
                await desk.store.append(job.id, job.attempt, [])
            assert [event.id for event in await desk.stored(job.id)] == [1, 2]

    asyncio.run(main())


def test_an_exception_whose_message_cannot_be_read_is_announced() -> None:
    """A step that raises what has no text fails with its own exception, and the event says so."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    @step
    def fails() -> None:
        raise Mute

    @pipeline
    def target() -> None:
        fails()

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            run = await recorded(desk, job, target)
            assert isinstance(run.error, Mute)
            assert [event.type for event in await desk.stored(job.id)] == ["step_started", "step_failed"]

    asyncio.run(main())
