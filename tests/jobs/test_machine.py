"""The life of jobs, whatever happens in whatever order, against a model in plain Python."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from asgipipe.errors import ConflictError
from asgipipe.jobs.records import TERMINAL_EVENTS, Job
from asgipipe.jobs.states import TRANSITIONS, JobState
from asgipipe.jobs.store import JobStore, StaleAttemptError
from asgipipe.stores.registry import database
from asgipipe.testing.jobstores import Stage, envelope, events_of, pending_job

OWNERS = (1, 2, 3)
TERMINAL = [state for state in JobState if state.terminal]


@dataclass
class Model:
    """What is expected of a job."""

    job: Job
    max_attempts: int
    due_at: float
    ready: bool
    state: JobState = JobState.PENDING
    attempt: int = 0
    owner: int | None = None
    losses: int = 0
    failures: int = 0
    error_code: str | None = None
    cancel_requested: bool = False
    events: list[str] = field(default_factory=list)
    results: dict[tuple[int, str], bytes] = field(default_factory=dict)

    def become(self, state: JobState, owner: int | None = None) -> None:
        assert state in TRANSITIONS[self.state]
        self.state, self.owner = state, owner
        if state.terminal:
            self.events.append(TERMINAL_EVENTS[state])
            self.results.clear()

    def claimed(self, owner: int) -> None:
        self.become(JobState.RUNNING, owner)
        self.attempt += 1

    def wait(self, due_at: float, now: float) -> None:
        self.become(JobState.PENDING)
        self.due_at, self.ready = due_at, due_at <= now

    def lose(self, now: float) -> None:
        self.losses += 1
        if self.cancel_requested:
            self.become(JobState.CANCELED)
            self.error_code = "canceled"
        elif self.losses >= self.max_attempts:
            self.become(JobState.FAILED)
            self.error_code = "interrupted"
        else:
            self.wait(now, now)


class Lives(RuleBasedStateMachine):
    """`stage` is set by a subclass; each example has a deployment of its own in its database."""

    stage: Stage
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.deployment = f"machine-{next(self.numbers)}"
        self.store: JobStore = self.stage.other(self.deployment)
        self.models: list[Model] = []

    @property
    def now(self) -> float:
        return self.stage.clock.now

    def pick(self, data: st.DataObject) -> Model:
        return data.draw(st.sampled_from(self.models))

    def attempt(self, data: st.DataObject, model: Model) -> tuple[int, Callable[[Callable[[], object]], bool]]:
        """Draw one of the attempts there have been; what it does is refused unless it owns the job."""
        number = data.draw(st.integers(max(model.attempt - 1, 0), model.attempt))
        owns = number == model.attempt and model.state is JobState.RUNNING

        def does(write: Callable[[], object]) -> bool:
            if owns:
                write()
                return True
            with pytest.raises(StaleAttemptError):
                write()
            return False

        return number, does

    @rule(priority=st.integers(-1, 1), delay=st.sampled_from((0, 0, 30)), max_attempts=st.integers(1, 2))
    def insert(self, priority: int, delay: int, max_attempts: int) -> None:
        job = pending_job(
            self.deployment,
            now=self.now,
            max_attempts=max_attempts,
            priority=priority,
            due_at=self.now + delay,
        )
        self.stage.run(self.store.insert(job, limit=10_000))
        self.models.append(Model(job, max_attempts, job.due_at, ready=not delay))

    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 3))
    def claim(self, owner: int, limit: int) -> None:
        claimed = self.stage.run(self.store.claim(owner, limit))
        waiting = [model for model in self.models if model.state is JobState.PENDING]
        for model in waiting:
            model.ready = model.ready or model.due_at <= self.now
        ready = sorted((model for model in waiting if model.ready), key=lambda each: (-each.job.priority, each.job.id))
        for model in ready[:limit]:
            model.claimed(owner)
        assert [job.id for job in claimed] == [model.job.id for model in ready[:limit]]

    @precondition(lambda self: self.models)
    @rule(data=st.data(), owner=st.sampled_from(OWNERS))
    def claim_one(self, data: st.DataObject, owner: int) -> None:
        model = self.pick(data)
        claimed = self.stage.run(self.store.claim_one(owner, model.job.id))
        assert (claimed is not None) == (model.state is JobState.PENDING and model.due_at <= self.now)
        if claimed is not None:
            model.claimed(owner)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), number=st.integers(0, 3), position=st.integers(0, 2), times=st.integers(1, 2))
    def append(self, data: st.DataObject, number: int, position: int, times: int) -> None:
        model = self.pick(data)
        attempt, does = self.attempt(data, model)
        events = events_of(model.job, len(model.events) + 1, *["log"] * number)
        results = [(position, "a step", b"%d" % attempt)]
        for _ in range(times):
            if does(lambda: self.stage.run(self.store.append(model.job.id, attempt, events, results=results))):
                model.results[position, "a step"] = b"%d" % attempt
        if model.state is JobState.RUNNING and attempt == model.attempt:
            model.events += ["log"] * number

    @precondition(lambda self: self.models)
    @rule(data=st.data(), state=st.sampled_from(TERMINAL), times=st.integers(1, 2))
    def finish(self, data: st.DataObject, state: JobState, times: int) -> None:
        model = self.pick(data)
        attempt, does = self.attempt(data, model)
        events = events_of(model.job, len(model.events) + 1, "log", TERMINAL_EVENTS[state])
        work = {
            "result": b"%d" % next(self.numbers),
            "error": None,
            "error_code": None,
            "execution_time": 1.0,
            "events": events,
        }
        ended = False
        for _ in range(times):
            ended = does(lambda: self.stage.run(self.store.finish(model.job.id, attempt, state, **work)))
        if ended:
            model.events.append("log")
            model.become(state)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), delay=st.sampled_from((0, 30)), failed=st.booleans())
    def put_back(self, data: st.DataObject, delay: int, failed: bool) -> None:
        model = self.pick(data)
        attempt, does = self.attempt(data, model)
        events = events_of(model.job, len(model.events) + 1, *["retrying"] * failed)
        due_at = self.now + delay
        back = self.store.put_back
        if does(lambda: self.stage.run(back(model.job.id, attempt, due_at=due_at, failed=failed, events=events))):
            model.failures += failed
            model.events += ["retrying"] * failed
            model.wait(self.now if model.cancel_requested else due_at, self.now)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        model = self.pick(data)
        cancel = self.store.request_cancel(model.job.id, reason="no more", by="bob", envelope=envelope)
        if model.state in {JobState.COMPLETED, JobState.FAILED}:
            with pytest.raises(ConflictError):
                self.stage.run(cancel)
            return
        self.stage.run(cancel)
        if model.state is JobState.PENDING:
            model.become(JobState.CANCELED)
            model.error_code = "canceled"
        elif model.state is JobState.RUNNING:
            model.cancel_requested = True

    @rule(dead=st.sets(st.sampled_from(OWNERS), min_size=1))
    def take_over(self, dead: set[int]) -> None:
        taken = self.stage.run(self.store.take_over(dead, envelope))
        lost = [model for model in self.models if model.state is JobState.RUNNING and model.owner in dead]
        for model in lost:
            model.lose(self.now)
        assert {job.id for job in taken} == {model.job.id for model in lost}

    @rule(seconds=st.sampled_from((1.0, 30.0, 86_400.0, -86_400.0)))
    def jump(self, seconds: float) -> None:
        self.stage.clock.now += seconds

    @invariant()
    def the_store_is_as_expected(self) -> None:
        for model in self.models:
            page = self.stage.run(self.store.events(model.job.id, 0, 1000))
            assert page is not None
            job = page.job
            assert (job.state, job.attempt, job.owner) == (model.state, model.attempt, model.owner)
            assert (job.losses, job.failures, job.error_code) == (model.losses, model.failures, model.error_code)
            assert [event.type for event in page.events] == model.events
            assert [event.id for event in page.events] == list(range(1, job.last_event + 1))
            assert sum(event.terminal for event in page.events) == job.state.terminal
            assert (job.completed_at is not None) == (job.result is not None) == job.state.terminal
            assert job.created_at <= (job.started_at or job.created_at) <= (job.completed_at or float("inf"))
            assert self.stage.run(self.store.results(model.job.id)) == model.results

    @invariant()
    def counts_and_owners_are_as_expected(self) -> None:
        states = [model.state for model in self.models]
        assert self.stage.run(self.store.counts()) == {state: states.count(state) for state in JobState}
        assert self.stage.run(self.store.owners()) == {model.owner for model in self.models} - {None}


@contextmanager
def machine(url: str) -> Iterator[type[Lives]]:
    stage = Stage(lambda: database(url))
    try:
        yield type("Lives", (Lives,), {"stage": stage})
    finally:
        stage.close()


@pytest.mark.parametrize(("where", "examples"), [("memory", 40), ("sqlite", 8), ("postgresql", 4)])
def test_the_store_is_what_the_model_says(
    where: str, examples: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After every step of a random life of jobs, the store holds what the model expects, nothing more or less."""
    urls = {"memory": lambda: "memory:", "sqlite": lambda: str(tmp_path / "store.db")}
    url = urls[where]() if where in urls else request.getfixturevalue("postgresql_url")
    with machine(url) as lives:
        run_state_machine_as_test(
            lives,
            settings=settings(
                phases=(Phase.generate,),
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
