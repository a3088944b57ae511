"""What the store of jobs has to prove over a database: one class of pytest tests, to be subclassed for each.

class TestMine(JobStoreConformance):
    @pytest.fixture
    def connect(self, tmp_path):
        return lambda: MyDatabase(tmp_path / "store")
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from asgipipe.errors import BadRequestError, ConflictError, NotFoundError, TooManyRequestsError, ValidationError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.jobs import IdempotencyKey, Replay
from asgipipe.jobs.records import TERMINAL_EVENTS, Event, Job, JobOptions
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore, StaleAttemptError
from asgipipe.stores.database import Database, Operation, Transaction

T = TypeVar("T")

Connect = Callable[[], Database]

BEGINNING = 1_800_000_000.0
DAY = 86_400.0
OWNER, OTHER = 1001, 1002
"""Workers that nobody has registered, and that are therefore dead."""

KEY = IdempotencyKey("order-7", caller="alice", fingerprint="one request")


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> float:
        return self.now


def pending_job(deployment: str = "d", *, now: float = BEGINNING, max_attempts: int = 3, **changes: object) -> Job:
    """Return a job as it is when it is submitted."""
    job = Job.pending(
        id=uuid7(),
        deployment=deployment,
        pipeline="weather",
        run_name="a run",
        due_at=now,
        created_at=now,
        parameters=b'{"city":"Oslo"}',
        options=JobOptions(max_attempts=max_attempts).dump(),
    )
    return replace(job, **changes)  # type: ignore[arg-type]  # as the caller says


def events_of(job: Job, first: int, *types: str, at: float = BEGINNING) -> list[Event]:
    """Return events with numbers from `first` on."""
    return [Event(job.id, number, kind, "a step", at, b"{}") for number, kind in enumerate(types, first)]


def envelope(job: Job, message: str) -> bytes:
    return f'{{"job":"{job.id}","error":"{message}"}}'.encode()


class Stage:
    """A store over an open database, on an event loop of its own; what became pending is in `delivered`."""

    def __init__(self, connect: Connect) -> None:
        self._runner = asyncio.Runner()
        self.clock = Clock()
        self.database = connect()
        self.delivered: list[tuple[str, int, float]] = []
        self.run(self.database.open())
        self.store = self.other("d")

    def other(self, deployment: str = "d", *, max_events: int = 100) -> JobStore:
        """Return another store over the same database."""
        return JobStore(self.database, deployment, clock=self.clock, on_pending=self._on_pending, max_events=max_events)

    def _on_pending(self, transaction: Transaction, job_id: str, priority: int, due_at: float) -> None:
        assert transaction.row("SELECT state FROM jobs WHERE id = ?", job_id) == ("pending",)
        self.delivered.append((job_id, priority, due_at))

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.database.close())
        self._runner.close()

    # What most tests begin with

    def submit(self, key: IdempotencyKey | None = None, **changes: object) -> Job:
        job = pending_job(now=self.clock.now, **changes)  # type: ignore[arg-type]  # as the caller says
        accepted = self.run(self.store.insert(job, limit=1000, key=key, ttl=DAY))
        assert isinstance(accepted, Job)
        return accepted

    def begin(self, owner: int = OWNER, *, max_attempts: int = 3) -> Job:
        job = self.run(self.store.claim_one(owner, self.submit(max_attempts=max_attempts).id))
        assert job is not None
        return job

    def finish(self, job: Job, state: JobState = JobState.COMPLETED, *, first: int | None = None) -> Job:
        first = job.last_event + 1 if first is None else first
        self.run(
            self.store.finish(
                job.id,
                job.attempt,
                state,
                result=b'{"success":true}',
                error=None,
                error_code=None,
                execution_time=0.5,
                events=events_of(job, first, TERMINAL_EVENTS[state]),
            )
        )
        return self.get(job)

    def append(self, job: Job, first: int, *types: str) -> None:
        self.run(self.store.append(job.id, job.attempt, events_of(job, first, *types)))

    def get(self, job: Job) -> Job:
        found = self.run(self.store.get(job.id))
        assert found is not None
        return found

    def numbers(self, job: Job, after: int = 0) -> list[int]:
        page = self.run(self.store.events(job.id, after, 1000))
        assert page is not None
        return [event.id for event in page.events]


class JobStoreConformance:
    """Subclass it with a fixture `connect`, which returns what makes a database, not opened, at an empty place."""

    @pytest.fixture
    def connect(self) -> Connect:
        raise NotImplementedError("a subclass says what is tested")

    @pytest.fixture
    def stage(self, connect: Connect) -> Iterator[Stage]:
        stage = Stage(connect)
        yield stage
        stage.close()

    # Jobs

    def test_a_job_is_read_as_it_was_written(self, stage: Stage) -> None:
        """Every field of a job comes back, whatever is in it."""
        job = stage.submit(run_name="ein Lauf \u2603", priority=-5, parameters=b"{\x00\xff}", due_at=BEGINNING + 0.125)
        assert stage.get(job) == job
        assert stage.delivered == [(job.id, -5, BEGINNING + 0.125)]

    def test_an_insert_that_is_repeated_is_found_done(self, stage: Stage) -> None:
        """A job inserted again, also when it runs or there is no room, is one job, and delivered once."""
        job = stage.submit(KEY)
        again = stage.run(stage.store.insert(job, limit=1, key=KEY, ttl=DAY))
        assert again == job
        running = stage.run(stage.store.claim_one(OWNER, job.id))
        assert stage.run(stage.store.insert(job, limit=1000, key=KEY, ttl=DAY)) == running
        assert len(stage.delivered) == 1

    def test_jobs_of_other_deployments_are_not_seen(self, stage: Stage) -> None:
        """Nothing that a store reads or changes is another deployment's."""
        other = stage.other("e")
        job, running = stage.submit(), stage.begin(owner=OWNER)
        assert stage.run(other.get(job.id)) is None
        assert stage.run(other.page(None, 10, None)).total == 0
        assert stage.run(other.claim(OWNER, 10)) == stage.run(other.owned(OWNER)) == []
        assert stage.run(other.claim_one(OWNER, job.id)) is None
        assert stage.run(other.next_due()) is None
        assert stage.run(other.take_over({OWNER}, envelope)) == []
        assert stage.run(other.events(running.id, 0, 10)) is None
        assert stage.run(other.marks([job.id])) == {}
        assert stage.run(other.owners()) == set()
        assert set(stage.run(other.counts()).values()) == {0}
        with pytest.raises(NotFoundError):
            stage.run(other.request_cancel(job.id, reason=None, by=None, envelope=envelope))
        assert stage.get(running) == running

    def test_pending_jobs_are_bounded(self, stage: Stage) -> None:
        """The job beyond the limit is refused, and one is accepted as soon as another has left the state."""
        insert = stage.store.insert
        jobs = [stage.run(insert(pending_job(), limit=3)) for _ in range(3)]
        with pytest.raises(TooManyRequestsError):
            stage.run(insert(pending_job(), limit=3))
        assert isinstance(jobs[0], Job)
        stage.run(stage.store.claim_one(OWNER, jobs[0].id))
        assert isinstance(stage.run(insert(pending_job(), limit=3)), Job)
        with pytest.raises(TooManyRequestsError):
            stage.run(insert(pending_job(), limit=3))
        assert stage.run(stage.store.counts())[JobState.PENDING] == 3

    # Lists

    def test_pages_hold_each_job_once_newest_first(self, stage: Stage) -> None:
        """Pages read one after the other hold every job once, though others are added meanwhile."""
        jobs = [stage.submit() for _ in range(7)]
        seen: list[str] = []
        cursor = None
        for size in (3, 3, 1):
            page = stage.run(stage.store.page(None, 3, cursor))
            assert len(page.jobs) == size
            seen += [job.id for job in page.jobs]
            cursor = page.next_cursor
            stage.submit()
        assert cursor is None
        assert seen == [job.id for job in reversed(jobs)]

    def test_a_page_that_ends_exactly_has_no_cursor(self, stage: Stage) -> None:
        """The last page says that it is, also when it is full."""
        stage.submit()
        page = stage.run(stage.store.page(JobState.PENDING, 1, None))
        assert (len(page.jobs), page.total, page.next_cursor) == (1, 1, None)

    def test_the_total_counts_what_the_filter_lets_through(self, stage: Stage) -> None:
        """Total and counts are of the state that was asked for, whatever the page holds."""
        for _ in range(3):
            stage.submit()
        done = stage.finish(stage.begin())
        page = stage.run(stage.store.page(JobState.PENDING, 2, None))
        assert (len(page.jobs), page.total) == (2, 3)
        assert stage.run(stage.store.page(JobState.PENDING, 2, page.next_cursor)).total == 3
        assert list(stage.run(stage.store.page(JobState.COMPLETED, 9, None)).jobs) == [done]
        assert stage.run(stage.store.page(None, 9, None)).total == 4
        assert stage.run(stage.store.counts()) == {
            JobState.PENDING: 3,
            JobState.RUNNING: 0,
            JobState.COMPLETED: 1,
            JobState.FAILED: 0,
            JobState.CANCELED: 0,
        }

    @pytest.mark.parametrize(
        "cursor", ["", "x", "1", "A" * 22, "\u2603" * 22, "=" * 22, "../../etc/passwd", "' OR 1=1 --", "_" * 22]
    )
    def test_a_cursor_of_nobody_is_refused(self, stage: Stage, cursor: str) -> None:
        """What is no cursor of ours is a bad request."""
        with pytest.raises(BadRequestError):
            stage.run(stage.store.page(None, 10, cursor))

    # Claims

    def test_jobs_are_claimed_by_priority_then_age(self, stage: Stage) -> None:
        """The highest priority comes first, among equals the oldest, and no more than were asked for."""
        low, first, second, high = (stage.submit(priority=priority) for priority in (-1, 0, 0, 5))
        assert [job.id for job in stage.run(stage.store.claim(OWNER, 3))] == [high.id, first.id, second.id]
        assert [job.id for job in stage.run(stage.store.claim(OWNER, 3))] == [low.id]

    def test_a_claimed_job_is_its_owners(self, stage: Stage) -> None:
        """A claim gives the job a new attempt and an owner, and nobody can claim it again."""
        job = stage.submit()
        stage.clock.now += 2
        (claimed,) = stage.run(stage.store.claim(OWNER, 10))
        assert claimed == replace(job, state=JobState.RUNNING, attempt=1, owner=OWNER, started_at=BEGINNING + 2)
        assert stage.get(job) == claimed
        assert stage.run(stage.store.claim(OTHER, 10)) == []
        assert stage.run(stage.store.claim_one(OTHER, job.id)) is None
        assert stage.run(stage.store.owned(OWNER)) == [claimed]
        assert stage.run(stage.store.owned(OTHER)) == []
        assert stage.run(stage.store.owners()) == {OWNER}

    def test_a_claim_that_is_repeated_is_found_done(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that is done again after a commit of unknown outcome gives the jobs that it has claimed."""
        jobs = [stage.submit() for _ in range(3)]
        write = stage.database.write

        async def write_twice(operation: Operation[T]) -> T:
            await write(operation)
            return await write(operation)

        monkeypatch.setattr(stage.database, "write", write_twice)
        first, second = stage.run(stage.store.claim(OWNER, 2))
        third = stage.run(stage.store.claim_one(OWNER, jobs[2].id))
        assert third is not None
        assert [(job.id, job.attempt) for job in (first, second, third)] == [(job.id, 1) for job in jobs]
        assert stage.run(stage.store.owned(OWNER)) == [first, second, third]

    def test_a_delayed_job_waits_for_its_time(self, stage: Stage) -> None:
        """Neither way of claiming gives a job before it is due, and the time to look again is told."""
        job = stage.submit(due_at=BEGINNING + 60)
        assert stage.run(stage.store.claim(OWNER, 10)) == []
        assert stage.run(stage.store.claim_one(OWNER, job.id)) is None
        assert stage.run(stage.store.next_due()) == BEGINNING + 60
        stage.clock.now += 60
        assert [claimed.id for claimed in stage.run(stage.store.claim(OWNER, 10))] == [job.id]
        assert stage.run(stage.store.next_due()) is None

    def test_what_is_due_is_not_due_later(self, stage: Stage) -> None:
        """With a job that can be claimed now, the next due time is not after now, set the clock back as you will."""
        stage.submit(due_at=BEGINNING + 60)
        stage.submit()
        stage.clock.now -= DAY
        due = stage.run(stage.store.next_due())
        assert due is not None
        assert due <= stage.clock.now
        assert len(stage.run(stage.store.claim(OWNER, 10))) == 1

    # Attempts

    def test_events_progress_and_results_are_kept(self, stage: Stage) -> None:
        """What an attempt appends can be read: events in order, the last progress, one result for each step."""
        job = stage.begin()
        events = events_of(job, 1, "pipeline_started", "progress", "log")
        store = stage.store
        stage.run(
            store.append(job.id, 1, events[:2], progress=b'{"fraction":0.5}', results=[(0, "a", b"1"), (1, "b", b"2")])
        )
        stage.run(store.append(job.id, 1, events[2:]))
        stage.run(store.append(job.id, 1, [], results=[(1, "b", b"3")]))
        page = stage.run(store.events(job.id, 1, 1))
        assert page is not None
        assert page.events == events[1:2]
        assert page.job == replace(job, last_event=3, progress=b'{"fraction":0.5}')
        assert stage.run(store.results(job.id)) == {(0, "a"): b"1", (1, "b"): b"3"}
        assert stage.run(store.marks([job.id, uuid7()])) == {job.id: 3}

    def test_large_events_come_in_smaller_pages(self, stage: Stage) -> None:
        """A page holds one event at least, and no more of them than half a mebibyte has room for."""
        job = stage.begin()
        sizes = [10, 300_000, 300_000, 700_000, 10, 10]
        events = [Event(job.id, each, "log", None, stage.clock(), b"x" * size) for each, size in enumerate(sizes, 1)]
        stage.run(stage.store.append(job.id, 1, events))
        pages, after = [], 0
        while (page := stage.run(stage.store.events(job.id, after, 10))) is not None and page.events:
            pages.append([event.id for event in page.events])
            after = page.events[-1].id
        assert pages == [[1, 2], [3], [4], [5, 6]]

    def test_an_append_that_is_repeated_is_found_done(self, stage: Stage) -> None:
        """Events that are there already are not doubled, though more of them come the second time."""
        job = stage.begin()
        stage.append(job, 1, "log", "log")
        stage.append(job, 1, "log", "log")
        stage.append(job, 2, "log", "log")
        assert stage.numbers(job) == [1, 2, 3]

    @pytest.mark.parametrize(("first", "types"), [(3, ["log"]), (2, ["pipeline_completed"])])
    def test_gaps_and_ends_in_between_are_refused(self, stage: Stage, first: int, types: list[str]) -> None:
        """An append can neither leave a number out nor write a terminal event."""
        job = stage.begin()
        stage.append(job, 1, "log")
        with pytest.raises(ValueError, match="event"):
            stage.append(job, first, *types)
        assert stage.numbers(job) == [1]

    def test_a_job_ends_once_with_its_terminal_event(self, stage: Stage) -> None:
        """State, result and terminal event come together, are found when repeated, and stay as they are."""
        job = stage.begin()
        stage.run(stage.store.append(job.id, 1, events_of(job, 1, "log"), results=[(0, "a", b"1")]))
        stage.clock.now += 3
        done = stage.finish(job, first=2)
        assert done == replace(
            job,
            state=JobState.COMPLETED,
            owner=None,
            result=b'{"success":true}',
            execution_time=0.5,
            completed_at=BEGINNING + 3,
            last_event=2,
        )
        stage.clock.now += 3
        assert stage.finish(job, first=2) == stage.get(job) == done
        with pytest.raises(StaleAttemptError):
            stage.finish(job, JobState.CANCELED, first=2)
        assert stage.numbers(job) == [1, 2]
        assert stage.run(stage.store.results(job.id)) == {}
        assert stage.run(stage.store.owners()) == set()

    @pytest.mark.parametrize("types", [[], ["log"], ["pipeline_failed"], ["pipeline_completed", "log"]])
    def test_no_job_ends_without_its_terminal_event(self, stage: Stage, types: list[str]) -> None:
        """An end whose events do not end with the event of the state changes nothing."""
        job = stage.begin()
        with pytest.raises(ValueError, match="terminal"):
            stage.run(
                stage.store.finish(
                    job.id,
                    1,
                    JobState.COMPLETED,
                    result=b"{}",
                    error=None,
                    error_code=None,
                    execution_time=1,
                    events=events_of(job, 1, *types),
                )
            )
        assert stage.get(job) == job
        assert stage.numbers(job) == []

    def test_a_retry_waits_and_a_hand_over_does_not_count(self, stage: Stage) -> None:
        """A job put back is pending, with a failure more when it failed; the next attempt goes on with its numbers."""
        job = stage.begin()
        retry = events_of(job, 1, "retrying")
        put_back = stage.store.put_back
        waiting = stage.run(put_back(job.id, 1, due_at=BEGINNING + 5, failed=True, events=retry))
        assert waiting == replace(
            job, state=JobState.PENDING, owner=None, failures=1, due_at=BEGINNING + 5, last_event=1
        )
        assert stage.run(put_back(job.id, 1, due_at=BEGINNING + 5, failed=True, events=retry)) == waiting
        assert stage.get(job) == waiting
        assert stage.run(stage.store.claim(OWNER, 1)) == []
        stage.clock.now += 5
        (second,) = stage.run(stage.store.claim(OTHER, 1))
        assert (second.attempt, second.last_event) == (2, 1)
        handed = stage.run(put_back(job.id, 2, due_at=stage.clock.now, failed=False))
        assert (handed.failures, handed.losses, handed.state) == (1, 0, JobState.PENDING)
        assert [due for _, _, due in stage.delivered] == [BEGINNING, BEGINNING + 5, BEGINNING + 5]

    def test_a_stale_attempt_changes_nothing(self, stage: Stage) -> None:
        """Once another attempt owns the job, or nobody does, everything the old one writes is refused."""
        job = stage.begin()
        stage.append(job, 1, "log")
        for _ in range(2):
            stage.run(stage.store.take_over({OWNER}, envelope))
            self._refused(stage, job)
            (current,) = stage.run(stage.store.claim(OTHER, 1))
            self._refused(stage, job)
            stage.run(stage.store.put_back(job.id, current.attempt, due_at=BEGINNING, failed=False))
        stage.run(stage.store.request_cancel(job.id, reason=None, by=None, envelope=envelope))
        self._refused(stage, job)

    @staticmethod
    def _refused(stage: Stage, job: Job) -> None:
        before = stage.get(job), stage.numbers(job), stage.run(stage.store.results(job.id))
        late = events_of(job, 2, "log")
        writes = (
            lambda: stage.append(job, 2, "log"),
            lambda: stage.run(stage.store.append(job.id, job.attempt, [], results=[(0, "a", b"1")])),
            lambda: stage.finish(job, first=2),
            lambda: stage.run(stage.store.put_back(job.id, job.attempt, due_at=0.0, failed=True, events=late)),
        )
        for write in writes:
            with pytest.raises(StaleAttemptError, match=job.id):
                write()
        assert before == (stage.get(job), stage.numbers(job), stage.run(stage.store.results(job.id)))

    def test_old_events_are_forgotten_and_the_newest_kept(self, stage: Stage) -> None:
        """Of more events than are to be kept the oldest go, the numbers go on, and the job says where it begins."""
        job = stage.begin()
        for first in range(1, 301, 30):
            stage.append(job, first, *["log"] * 30)
            first_kept, numbers = stage.get(job).first_event, stage.numbers(job)
            assert numbers == list(range(first_kept, first + 30))
            assert len(numbers) <= 100
            assert first_kept == 1 or len(numbers) >= 61
        done = stage.finish(job, first=301)
        assert stage.numbers(job)[-1] == done.last_event == 301
        assert len(stage.numbers(job)) <= 100

    # Workers that are lost

    def test_a_lost_job_is_run_again_until_it_was_lost_too_often(self, stage: Stage) -> None:
        """Each loss makes it pending at once, with its results, until it fails as interrupted with one last event."""
        job = stage.begin(max_attempts=2)
        stage.run(stage.store.append(job.id, 1, events_of(job, 1, "log"), results=[(0, "a", b"1")]))
        stage.clock.now += 1
        (waiting,) = stage.run(stage.store.take_over({OWNER, OTHER}, envelope))
        assert (waiting.state, waiting.losses, waiting.owner) == (JobState.PENDING, 1, None)
        assert stage.run(stage.store.results(job.id)) == {(0, "a"): b"1"}
        (second,) = stage.run(stage.store.claim(OTHER, 1))
        (failed,) = stage.run(stage.store.take_over({OTHER}, envelope))
        assert (failed.state, failed.error_code, failed.losses) == (JobState.FAILED, "interrupted", 2)
        assert failed.error is not None
        assert failed.result == envelope(job, failed.error)
        assert failed.completed_at == stage.clock.now
        assert stage.get(job) == failed
        page = stage.run(stage.store.events(job.id, 1, 10))
        assert page is not None
        assert page.events == [Event(job.id, 2, "pipeline_failed", None, stage.clock.now, failed.result)]
        assert stage.run(stage.store.take_over({OWNER, OTHER}, envelope)) == []
        with pytest.raises(StaleAttemptError):
            stage.finish(second, JobState.FAILED, first=2)
        assert len(stage.delivered) == 2

    def test_jobs_of_the_living_are_not_taken_over(self, stage: Stage) -> None:
        """Only what the dead ran is taken over."""
        job, lost = stage.begin(OWNER), stage.begin(OTHER)
        assert [taken.id for taken in stage.run(stage.store.take_over({OTHER}, envelope))] == [lost.id]
        assert stage.get(job) == job

    # Cancel

    def test_a_pending_job_is_canceled_at_once(self, stage: Stage) -> None:
        """It ends with its terminal event, says by whom and why, and a second cancel changes nothing."""
        job = stage.submit(due_at=BEGINNING + 60)
        cancel = stage.store.request_cancel
        canceled = stage.run(cancel(job.id, reason="too late", by="bob", envelope=envelope))
        assert (canceled.state, canceled.canceled_by, canceled.cancel_reason) == (JobState.CANCELED, "bob", "too late")
        assert canceled.error_code == "canceled"
        assert canceled.result == envelope(job, "the job was canceled: too late")
        page = stage.run(stage.store.events(job.id, 0, 10))
        assert page is not None
        assert page.events == [Event(job.id, 1, "pipeline_canceled", None, BEGINNING, canceled.result)]
        assert stage.run(cancel(job.id, reason="again", by="eve", envelope=envelope)) == stage.get(job) == canceled
        stage.clock.now += 60
        assert stage.run(stage.store.claim(OWNER, 10)) == []

    def test_the_owner_of_a_running_job_is_asked_to_cancel_it(self, stage: Stage) -> None:
        """The request stands until the owner ends the job, the first reason holds, and a finished job is a conflict."""
        job = stage.begin()
        stage.begin()
        cancel = stage.store.request_cancel
        assert stage.run(stage.store.cancel_requests(OWNER)) == []
        asked = stage.run(cancel(job.id, reason="why not", by=None, envelope=envelope))
        assert asked == replace(job, cancel_requested=True, cancel_reason="why not")
        assert stage.run(cancel(job.id, reason="again", by="eve", envelope=envelope)) == asked
        assert stage.run(stage.store.cancel_requests(OWNER)) == [(job.id, "why not")]
        assert stage.run(stage.store.cancel_requests(OTHER)) == []
        done = stage.finish(job)
        with pytest.raises(ConflictError, match="completed"):
            stage.run(cancel(job.id, reason=None, by=None, envelope=envelope))
        assert stage.get(job) == done
        assert stage.run(stage.store.cancel_requests(OWNER)) == []
        with pytest.raises(NotFoundError):
            stage.run(cancel(uuid7(), reason=None, by=None, envelope=envelope))

    def test_any_reason_can_be_kept(self, stage: Stage) -> None:
        """A reason with characters that have no UTF-8 form is no failure."""
        job = stage.submit()
        cancel = stage.store.request_cancel(job.id, reason="\ud800 \u2603", by="\udfff", envelope=envelope)
        assert (stage.run(cancel).cancel_reason, stage.get(job).canceled_by) == ("? \u2603", "?")

    def test_a_lost_job_that_was_to_be_canceled_is(self, stage: Stage) -> None:
        """Nobody runs a job again that was to be cancelled when its worker was lost."""
        job = stage.begin()
        stage.run(stage.store.request_cancel(job.id, reason=None, by="bob", envelope=envelope))
        (canceled,) = stage.run(stage.store.take_over({OWNER}, envelope))
        assert (canceled.state, canceled.canceled_by) == (JobState.CANCELED, "bob")
        assert stage.numbers(job) == [1]

    def test_a_retry_that_is_to_be_canceled_does_not_wait(self, stage: Stage) -> None:
        """A job put back although it is to be cancelled is due at once, so that somebody sees to that."""
        job = stage.begin()
        stage.run(stage.store.request_cancel(job.id, reason=None, by=None, envelope=envelope))
        stage.run(stage.store.put_back(job.id, 1, due_at=BEGINNING + 300, failed=True))
        (again,) = stage.run(stage.store.claim(OTHER, 1))
        assert again.cancel_requested

    # Clocks

    @pytest.mark.parametrize("jump", [-DAY, DAY])
    def test_no_duration_is_negative(self, stage: Stage, jump: float) -> None:
        """Whatever the clock does, a job is created, started and completed in this order, also when nobody ran it."""
        ended = []
        for end in (stage.finish, self._cancel(stage), self._lose(stage)):
            job = stage.submit(max_attempts=1)
            stage.clock.now += jump
            (running,) = stage.run(stage.store.claim(OWNER, 1))
            stage.clock.now += jump
            end(running)
            ended.append(stage.get(job))
        for job in ended:
            assert job.started_at is not None
            assert job.completed_at is not None
            assert job.created_at <= job.started_at <= job.completed_at

    @staticmethod
    def _cancel(stage: Stage) -> Callable[[Job], object]:
        def cancel(job: Job) -> None:
            back = stage.run(stage.store.put_back(job.id, job.attempt, due_at=0.0, failed=False))
            stage.run(stage.store.request_cancel(back.id, reason=None, by=None, envelope=envelope))

        return cancel

    @staticmethod
    def _lose(stage: Stage) -> Callable[[Job], object]:
        return lambda _: stage.run(stage.store.take_over({OWNER}, envelope))

    # Idempotency keys

    def test_a_key_of_a_job_gives_the_job_again(self, stage: Stage) -> None:
        """The same request with the same key is no second job; another request with it is refused, saying why."""
        job = stage.submit(KEY)
        assert stage.run(stage.store.insert(pending_job(), limit=9, key=KEY, ttl=DAY)) == Replay(job.id, 202, None)
        with pytest.raises(ValidationError, match="another request"):
            stage.run(stage.store.insert(pending_job(), limit=9, key=replace(KEY, fingerprint="another"), ttl=DAY))
        assert stage.run(stage.store.page(None, 9, None)).total == 1

    def test_keys_are_separate_by_caller_and_deployment(self, stage: Stage) -> None:
        """The same key of somebody else, or of another deployment, is another key."""
        stage.submit(KEY)
        stage.submit(replace(KEY, caller="bob"))
        other = stage.run(stage.other("e").insert(pending_job("e"), limit=9, key=KEY, ttl=DAY))
        assert isinstance(other, Job)

    def test_a_refused_job_takes_no_key(self, stage: Stage) -> None:
        """Where there is no room for the job, the key is as free as before."""
        with pytest.raises(TooManyRequestsError):
            stage.run(stage.store.insert(pending_job(), limit=0, key=KEY, ttl=DAY))
        another = replace(KEY, fingerprint="another")
        owner = stage.run(stage.database.register())
        assert stage.run(stage.store.reserve(another, "run-1", owner=owner, ttl=DAY)) is None

    def test_a_key_expires(self, stage: Stage) -> None:
        """After its lifetime a key is taken anew, whatever the request is."""
        first = stage.submit(KEY)
        stage.clock.now += DAY
        second = stage.submit(replace(KEY, fingerprint="another"))
        assert first.id != second.id

    def test_a_sync_run_holds_its_key_until_it_is_answered(self, stage: Stage) -> None:
        """While it runs others are refused, then they get its answer, until the key expires."""
        owner = stage.run(stage.database.register())
        reserve = stage.store.reserve
        assert stage.run(reserve(KEY, "run-1", owner=owner, ttl=DAY)) is None
        assert stage.run(reserve(KEY, "run-1", owner=owner, ttl=DAY)) is None  # repeated
        stage.clock.now += 2 * DAY
        with pytest.raises(ConflictError, match="still running"):
            stage.run(reserve(KEY, "run-2", owner=owner, ttl=DAY))
        with pytest.raises(ConflictError):
            stage.run(stage.store.insert(pending_job(), limit=9, key=KEY, ttl=DAY))
        with pytest.raises(ValidationError):
            stage.run(reserve(replace(KEY, fingerprint="another"), "run-2", owner=owner, ttl=DAY))
        stage.clock.now -= 2 * DAY
        stage.run(stage.store.answer(KEY, "run-1", status=500, body=b'{"success":false}'))
        answered = Replay("run-1", 500, b'{"success":false}')
        assert stage.run(reserve(KEY, "run-2", owner=owner, ttl=DAY)) == answered
        stage.run(stage.store.release(KEY, "run-1"))
        stage.run(stage.store.answer(KEY, "run-1", status=200, body=b"late"))
        assert stage.run(reserve(KEY, "run-2", owner=owner, ttl=DAY)) == answered
        stage.clock.now += DAY
        assert stage.run(reserve(KEY, "run-3", owner=owner, ttl=DAY)) is None

    def test_a_key_that_is_given_back_is_free(self, stage: Stage) -> None:
        """A request that was refused in the end leaves its key to the next one."""
        owner = stage.run(stage.database.register())
        stage.run(stage.store.reserve(KEY, "run-1", owner=owner, ttl=DAY))
        stage.run(stage.store.release(KEY, "run-1"))
        assert stage.run(stage.store.reserve(KEY, "run-2", owner=owner, ttl=DAY)) is None

    def test_a_key_of_a_dead_worker_is_free(self, stage: Stage) -> None:
        """It is taken anew at once, whatever the request, and the dead one's late answer is not kept."""
        owner = stage.run(stage.database.register())
        stage.run(stage.store.reserve(KEY, "run-1", owner=OWNER, ttl=DAY))
        assert stage.run(stage.store.owners()) == {OWNER}
        assert stage.run(stage.store.reserve(KEY, "run-2", owner=owner, ttl=DAY)) is None
        stage.run(stage.store.answer(KEY, "run-1", status=200, body=b"late"))
        stage.run(stage.store.release(KEY, "run-1"))
        with pytest.raises(ConflictError):
            stage.run(stage.store.reserve(KEY, "run-3", owner=owner, ttl=DAY))

    def test_what_the_dead_held_of_keys_is_given_back(self, stage: Stage) -> None:
        """Taking over from a worker leaves none of its unanswered keys; answered ones stay."""
        answered = replace(KEY, key="answered")
        for key in (KEY, answered):
            stage.run(stage.store.reserve(key, "run-1", owner=OWNER, ttl=DAY))
        stage.run(stage.store.answer(answered, "run-1", status=200, body=b"{}"))
        assert stage.run(stage.store.take_over({OWNER}, envelope)) == []
        assert stage.run(stage.store.owners()) == set()
        assert stage.run(stage.store.reserve(answered, "run-2", owner=OTHER, ttl=DAY)) == Replay("run-1", 200, b"{}")

    # Retention

    def test_only_what_ended_long_ago_is_removed(self, stage: Stage) -> None:
        """Old jobs go with their events; younger ones and those that are not terminal, however old, stay."""
        pending, running, old = stage.submit(), stage.begin(), stage.begin()
        stage.append(old, 1, "log")
        stage.finish(old, first=2)
        stage.clock.now += DAY
        young = stage.finish(stage.begin())
        assert self._prune(stage, jobs_before=stage.clock.now, limit=100) == [3]
        assert stage.run(stage.store.get(old.id)) is None
        assert stage.run(stage.store.events(old.id, 0, 10)) is None
        assert [stage.get(job).state for job in (pending, running)] == [JobState.PENDING, JobState.RUNNING]
        assert stage.numbers(young) == [1]
        assert self._prune(stage, jobs_before=None, limit=100) == []

    def test_a_little_is_removed_at_a_time(self, stage: Stage) -> None:
        """No operation removes more rows than it may, not even of one job with many events."""
        for _ in range(3):
            job = stage.begin()
            stage.append(job, 1, *["log"] * 24)
            stage.finish(job, first=25)
        removed = self._prune(stage, jobs_before=stage.clock.now + 1, limit=10)
        assert max(removed) <= 10
        assert sum(removed) == 3 * 26
        assert stage.run(stage.store.page(None, 9, None)).total == 0

    def test_a_job_outlives_the_key_that_leads_to_it(self, stage: Stage) -> None:
        """A job that is older than retention is kept while a replay can ask for it, and removed after that."""
        job = stage.submit(KEY)
        stage.finish(stage.run(stage.store.claim(OWNER, 1))[0])
        stage.clock.now += DAY / 2
        assert self._prune(stage, jobs_before=stage.clock.now, limit=100) == []
        assert stage.run(stage.store.insert(pending_job(), limit=9, key=KEY, ttl=DAY)) == Replay(job.id, 202, None)
        stage.clock.now += DAY
        assert sum(self._prune(stage, jobs_before=stage.clock.now, limit=100)) == 3
        assert stage.run(stage.store.get(job.id)) is None

    def test_a_job_whose_key_was_taken_anew_is_subject_to_retention(self, stage: Stage) -> None:
        """Once the key leads to another job, the first one is kept no longer than others."""
        first = stage.submit(KEY)
        stage.finish(stage.run(stage.store.claim(OWNER, 1))[0])
        stage.clock.now += DAY
        second = stage.submit(KEY)
        assert sum(self._prune(stage, jobs_before=stage.clock.now, limit=100)) == 2
        assert stage.run(stage.store.get(first.id)) is None
        assert stage.get(second) == second

    def test_keys_of_running_sync_runs_are_not_removed(self, stage: Stage) -> None:
        """An unanswered key outlives its lifetime; an answered one is removed after it."""
        stage.run(stage.store.reserve(KEY, "run-1", owner=OWNER, ttl=DAY))
        stage.clock.now += 2 * DAY
        assert self._prune(stage, jobs_before=None, limit=100) == []
        stage.run(stage.store.answer(KEY, "run-1", status=200, body=b"{}"))
        assert self._prune(stage, jobs_before=None, limit=100) == [1]

    @staticmethod
    def _prune(stage: Stage, *, jobs_before: float | None, limit: int) -> list[int]:
        removed = []
        while count := stage.run(stage.store.prune(jobs_before=jobs_before, keys_before=stage.clock.now, limit=limit)):
            removed.append(count)
        return removed
