import asyncio
import json
import random
from collections.abc import Sequence

import pytest

from asgipipe.errors import NotFoundError, UnavailableError
from asgipipe.jobs.hub import Hub
from asgipipe.jobs.records import Event, EventPage, Job
from asgipipe.jobs.states import JobState
from tests.http.wire import until
from tests.jobs.claimed import Bench, bench


def events(job: Job, first: int, last: int, size: int = 0) -> list[Event]:
    data = json.dumps({"delta": "x" * size}).encode()
    return [Event(job.id, number, "output_delta", None, 0.0, data) for number in range(first, last + 1)]


async def append(desk: Bench, job: Job, first: int, last: int, *, here: bool = True, size: int = 0) -> None:
    """Write events as a recording of this process, or of another one, does."""
    written = events(job, first, last, size)
    await desk.store.append(job.id, job.attempt, written)
    if here:
        desk.hub.published(job.id, written)


async def finish(desk: Bench, job: Job, number: int, *, here: bool = True) -> None:
    ending = [Event(job.id, number, "pipeline_completed", None, 0.0, b"{}")]
    await desk.store.finish(
        job.id,
        job.attempt,
        JobState.COMPLETED,
        result=b"{}",
        error=None,
        error_code=None,
        execution_time=0.0,
        events=ending,
    )
    if here:
        desk.hub.published(job.id, ending)


async def followed(hub: Hub, job_id: str, after: int = 0) -> list[Event]:
    """Return all that a follower is given."""
    return [event async for some in hub.follow(job_id, after) for event in some]


def numbers(found: Sequence[Event]) -> list[int]:
    return [event.id for event in found]


def test_a_finished_job_is_replayed() -> None:
    """A follower of a job that has ended gets its events from the one asked for, and ends."""

    async def main() -> None:
        async with bench(capacity=7) as desk:
            job = await desk.claimed()
            await append(desk, job, 1, 20)
            await finish(desk, job, 21)
            assert numbers(await followed(desk.hub, job.id)) == list(range(1, 22))
            assert numbers(await followed(desk.hub, job.id, 15)) == list(range(16, 22))
            assert await followed(desk.hub, job.id, 21) == []
            assert desk.hub.followed == frozenset()

    asyncio.run(main())


def test_an_unknown_job_is_not_found_at_the_first_step() -> None:
    """Following a job that there is none of raises NotFoundError, and leaves nothing behind."""

    async def main() -> None:
        async with bench() as desk:
            with pytest.raises(NotFoundError):
                await anext(desk.hub.follow("unknown"))
            assert desk.hub.followed == frozenset()

    asyncio.run(main())


@pytest.mark.parametrize("here", [True, False], ids=["this process", "another process"])
@pytest.mark.parametrize("capacity", [3, 1000])
def test_history_and_live_join_without_gap_or_duplicate(here: bool, capacity: int) -> None:
    """Followers who come at any moment get every event once and in order, wherever they are written."""

    async def main() -> None:
        chance = random.Random(f"{here}{capacity}")
        async with bench(capacity=capacity) as desk:
            job = await desk.claimed()
            if here:
                desk.hub.runs_here(job.id)
            tasks: list[tuple[int, asyncio.Task[list[Event]]]] = []
            last = 0
            for _ in range(60):
                count = chance.randrange(1, 9)
                after = chance.randrange(last + 1)
                tasks.append((after, asyncio.create_task(followed(desk.hub, job.id, after))))
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                await append(desk, job, last + 1, last + count, here=here)
                last += count
            await finish(desk, job, last + 1, here=here)
            for after, task in tasks:
                async with asyncio.timeout(10):
                    assert numbers(await task) == list(range(after + 1, last + 2))

    asyncio.run(main())


def test_a_follower_of_a_waiting_job_is_told_by_the_database() -> None:
    """Who follows a job before its first event gets all that another process writes."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            task = asyncio.create_task(followed(desk.hub, job.id))
            await until(lambda: desk.hub.followed)
            await append(desk, job, 1, 2, here=False)
            await finish(desk, job, 3, here=False)
            async with asyncio.timeout(10):
                assert numbers(await task) == [1, 2, 3]

    asyncio.run(main())


def test_a_job_that_moves_between_processes_is_followed_on() -> None:
    """Events written elsewhere between two groups of this process's are read from the store."""

    async def main() -> None:
        async with bench(look=60.0) as desk:
            job = await desk.claimed()
            stream = desk.hub.follow(job.id)
            await append(desk, job, 1, 2)
            assert numbers(await anext(stream)) == [1, 2]
            await append(desk, job, 3, 4, here=False)
            await append(desk, job, 5, 6)
            got = [*await anext(stream)]
            while got[-1].id < 6:
                got += await anext(stream)
            assert numbers(got) == [3, 4, 5, 6]
            await stream.aclose()

    asyncio.run(main())


def test_groups_that_overlap_are_given_once() -> None:
    """Of events that are published again, for an attempt to write them had an unknown outcome, none comes twice."""

    async def main() -> None:
        async with bench(look=60.0) as desk:
            job = await desk.claimed()
            stream = desk.hub.follow(job.id)
            await append(desk, job, 1, 1)
            got = [*await anext(stream)]
            await append(desk, job, 2, 4)
            desk.hub.published(job.id, events(job, 3, 4))
            await append(desk, job, 3, 6)
            while got[-1].id < 6:
                got += await anext(stream)
            assert numbers(got) == [1, 2, 3, 4, 5, 6]
            await stream.aclose()

    asyncio.run(main())


def test_a_follower_that_reads_takes_nothing_from_the_others() -> None:
    """What one follower has read from the store already is still told to those who came before."""

    async def main() -> None:
        async with bench(look=0.2) as desk:
            job = await desk.claimed()
            await append(desk, job, 1, 1)
            first, second = desk.hub.follow(job.id), desk.hub.follow(job.id)
            await anext(first)
            await append(desk, job, 2, 2, here=False)
            assert numbers(await anext(second)) == [1, 2]
            async with asyncio.timeout(10):
                assert numbers(await anext(first)) == [2]
            await first.aclose()
            await second.aclose()

    asyncio.run(main())


def test_the_store_is_not_asked_for_jobs_that_run_here() -> None:
    """Looks at what other processes wrote leave out the jobs whose events are published here, until they end."""

    async def main() -> None:
        async with bench() as desk:
            here, there = await desk.claimed(), await desk.claimed()
            asked: list[set[str]] = []
            marks = desk.store.marks

            async def noted(job_ids: Sequence[str]) -> dict[str, int]:
                asked.append(set(job_ids))
                return await marks(job_ids)

            desk.store.marks = noted  # type: ignore[method-assign,assignment]
            desk.hub.runs_here(here.id)
            tasks = [asyncio.create_task(followed(desk.hub, job.id)) for job in (here, there)]
            await until(lambda: {there.id} in asked)
            assert not any(here.id in ids for ids in asked)
            desk.hub.ended_here(here.id)
            await until(lambda: {here.id, there.id} in asked)
            desk.hub.close()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_stalled_follower_holds_no_more_than_its_share() -> None:
    """Of what a follower does not come for at most the capacity is held, and it gets all of it in the end."""

    async def main() -> None:
        async with bench(capacity=50) as desk:
            job = await desk.claimed()
            desk.hub.runs_here(job.id)
            stream = desk.hub.follow(job.id)
            await append(desk, job, 1, 10)
            got = [*await anext(stream)]
            (follower,) = desk.hub._topics[job.id].followers
            for start in range(11, 5011, 100):
                await append(desk, job, start, start + 99)
                assert len(follower._held) + len(got) <= 50
            await finish(desk, job, 5011)
            got += [event async for some in stream for event in some]
            assert numbers(got) == list(range(1, 5012))

    asyncio.run(main())


def test_large_events_are_held_by_their_size() -> None:
    """A follower that does not come for a few events of a mebibyte holds only some of them."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            stream = desk.hub.follow(job.id)
            await append(desk, job, 1, 1)
            await anext(stream)
            for number in range(2, 22):
                desk.hub.published(job.id, events(job, number, number, 1024 * 1024))
            (follower,) = desk.hub._topics[job.id].followers
            assert sum(len(event.data) for event in follower._held) <= 2 * 1024 * 1024
            await stream.aclose()

    asyncio.run(main())


def test_events_that_are_no_longer_kept_are_said_to_be_gone() -> None:
    """A follower of what was forgotten first gets a log event with the number of the last one that is gone."""

    async def main() -> None:
        async with bench(max_events=100) as desk:
            job = await desk.claimed()
            for start in range(1, 301, 50):
                await append(desk, job, start, start + 49)
            await finish(desk, job, 301)
            kept = (await desk.stored(job.id))[0].id
            assert kept > 1
            first, *rest = await followed(desk.hub, job.id, 20)
            assert (first.type, first.id) == ("log", kept - 1)
            assert json.loads(first.data)["message"] == f"{kept - 21} events before this one are no longer kept"
            assert numbers(rest) == list(range(kept, 302))

    asyncio.run(main())


def test_a_thousand_live_followers_read_the_store_once_each() -> None:
    """Followers who have read the history are told of the rest without asking the store again."""

    async def main() -> None:
        async with bench(look=60.0) as desk:
            job = await desk.claimed()
            desk.hub.runs_here(job.id)
            reads = 0
            read = desk.store.events

            async def counted(job_id: str, after: int, limit: int) -> EventPage | None:
                nonlocal reads
                reads += 1
                return await read(job_id, after, limit)

            desk.store.events = counted  # type: ignore[method-assign]
            tasks = [asyncio.create_task(followed(desk.hub, job.id)) for _ in range(1000)]
            await until(lambda: reads == 1000)
            for start in range(1, 101, 10):
                await append(desk, job, start, start + 9)
            await finish(desk, job, 101)
            for found in await asyncio.gather(*tasks):
                assert numbers(found) == list(range(1, 102))
            assert reads == 1000

    asyncio.run(main())


def test_closing_ends_followers_without_a_terminal_event() -> None:
    """Followers of the jobs that are closed end, the others go on until all are; then nobody can follow."""

    async def main() -> None:
        async with bench() as desk:
            one, other = await desk.claimed(), await desk.claimed()
            await append(desk, one, 1, 1)
            tasks = [asyncio.create_task(followed(desk.hub, job.id)) for job in (one, other)]
            await until(lambda: len(desk.hub.followed) == 2)
            desk.hub.close([one.id])
            await tasks[0]
            assert not tasks[1].done()
            desk.hub.close()
            assert await tasks[1] == []
            with pytest.raises(UnavailableError):
                await anext(desk.hub.follow(one.id))

    asyncio.run(main())


def test_the_database_is_watched_only_while_somebody_follows() -> None:
    """The first follower begins the watch, the last one ends it, with its task."""

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            before = asyncio.all_tasks()
            stream = desk.hub.follow(job.id)
            await append(desk, job, 1, 1)
            await anext(stream)
            assert len(asyncio.all_tasks() - before) == 1
            await stream.aclose()
            await until(lambda: not asyncio.all_tasks() - before)

    asyncio.run(main())


def test_a_store_that_is_away_for_a_while_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that has begun asks again when the store cannot be reached; one that begins is told."""
    monkeypatch.setattr("asgipipe.jobs.hub._PATIENCE", 0.01)

    async def main() -> None:
        async with bench(capacity=2) as desk:
            job = await desk.claimed()
            await append(desk, job, 1, 10)
            await finish(desk, job, 11)
            stream = desk.hub.follow(job.id)
            got = [*await anext(stream)]
            read, failures = desk.store.events, 3

            async def away(job_id: str, after: int, limit: int) -> EventPage | None:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    raise UnavailableError("away")
                return await read(job_id, after, limit)

            desk.store.events = away  # type: ignore[method-assign]
            got += [event async for some in stream for event in some]
            assert numbers(got) == list(range(1, 12))
            failures = 1
            with pytest.raises(UnavailableError):
                await followed(desk.hub, job.id)

    asyncio.run(main())
