"""kill -9 at every named point of a job's life, on both stores, standalone and inside a Django host."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.conftest import PATIENCE
from tests.reliability.conftest import MakeSite
from tests.reliability.killing import DJANGO, STARLETTE, Follower, Job, Site, Store, until

STEPS = ("first", "second", "third")
HOSTS = {"starlette": STARLETTE, "django": DJANGO}
PLACES = [(host, store) for host in ("starlette", "django") for store in ("sqlite", "postgresql")]

pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize(("site", "job_store"), PLACES, indirect=True)]

Times = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """A job whose process dies at `points`; `attempts` it may take, and how often its steps may have their effect.

    Steps that are not named have theirs exactly once.
    """

    points: str
    attempts: tuple[int, ...] = (2,)
    effects: Times = field(default_factory=dict)


ACCEPTED = [
    Case("insert.before", (1,)),
    Case("insert.during", (1,)),
    Case("insert.after", (1,)),
    Case("claim.before", (1,)),
    Case("claim.during", (1, 2)),
    Case("claim.after"),
    Case("claim.after+takeover.before"),
    Case("claim.after+takeover.after"),
]
RUNNING = [
    Case("pipeline.begun"),
    Case("events.before", effects={"first": (1, 2), "second": (1, 2), "third": (1, 2)}),  # the steps go on beside
    # Nothing waits for events: how far the run has come when they are durable depends on the machine.
    Case("events.after", effects={"first": (1, 2), "second": (1, 2), "third": (1, 2)}),
    Case("first.begun"),
    Case("first.effect", effects={"first": (2,)}),
    Case("kept.before", effects={"first": (2,)}),
    Case("kept.during", effects={"first": (1, 2)}),
    Case("kept.after"),
    Case("second.effect", effects={"second": (2,)}),
    Case("third.effect", effects={"third": (2,)}),
    Case("first.effect+second.effect", (3,), {"first": (2,), "second": (2,)}),
]
ENDING = [
    Case("pipeline.end"),
    Case("finish.before"),
    Case("finish.during", (1, 2)),
    Case("finish.after", (1,)),
]


@pytest.fixture
def site(request: pytest.FixtureRequest, job_store: Store, make_site: MakeSite) -> Site:
    pytest.importorskip(request.param)
    settings = {"ASGIPIPE_DRAIN_TIMEOUT": "0.2", "ASGIPIPE_JOB_RETRIES": "1", "ASGIPIPE_JOB_RETRY_DELAY": "0.3"}
    return make_site(HOSTS[request.param], job_store, **settings)


def verify(site: Site, case: Case, job: Job) -> None:
    """See that a job was completed, in as many attempts and with as many effects as the death explains."""
    assert site.has_died(case.points), case
    assert job["status"] == "completed", job
    assert job["result"]["outputs"] == {"output": 3}
    assert job["attempt"] in case.attempts, job
    effects = site.effects(job["job_id"])
    for step in STEPS:
        assert effects[step] in case.effects.get(step, (1,)), (case, effects)
    site.verify_history(job)


@pytest.mark.parametrize("cases", [ACCEPTED, RUNNING, ENDING], ids=["accepted", "running", "ending"])
def test_no_job_is_lost(site: Site, cases: list[Case]) -> None:
    """Rows 13 and 14: wherever the process dies, every accepted job is completed, once, and no step is repeated but
    one that was under way.
    """
    for case in cases:
        verify(site, case, site.ended(site.submit(case.points)))
    site.verify_store()
    assert site.starts == 1 + sum(case.points.count("+") + 1 for case in cases)


def test_the_last_attempt(site: Site) -> None:
    """Rows 13 and 14: a job whose process dies in each of three attempts has failed as `interrupted`, and had its
    effects three times at most.
    """
    job = site.ended(site.submit("pipeline.begun+first.effect+kept.before", failures=5))
    assert (job["status"], job["error_code"], job["attempt"]) == ("failed", "interrupted", 3), job
    assert site.effects(job["job_id"]) == {"first": 2}
    site.verify_history(job)
    site.verify_store()


def test_retries(site: Site) -> None:
    """Rows 13 and 14: what failed and is to be retried is neither forgotten nor retried twice, wherever the process
    dies.
    """
    for case in [Case("retry.before"), Case("retry.during"), Case("retry.after")]:
        verify(site, case, site.ended(site.submit(case.points, failures=1)))
    waiting = site.submit("waits", failures=1)
    until(lambda: site.job(waiting)["attempt"] == 1 and site.job(waiting)["status"] == "pending", "the retry")
    site.kill()
    job = site.ended(waiting)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert site.effects(waiting) == dict.fromkeys(STEPS, 1)
    site.verify_history(job)
    site.verify_store()


def test_hand_over(site: Site) -> None:
    """Rows 13 and 14: a job is handed over at SIGTERM, and completed, also when the process dies over that."""
    for points in ("", "handover.before", "handover.during", "handover.after"):
        name = points or "clean"
        job_id = site.submit(name, gated=f"gate-{name}")
        site.until_noted(job_id, "waiting")
        assert site.server is not None
        assert (site.server.stop() == -signal.SIGKILL) == bool(points), site.server.stderr()
        site.store.pass_time()
        site.start()
        site.open(f"gate-{name}")
        job = site.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)
        assert not points or site.has_died(points)
        effects = site.effects(job_id)
        assert [effects[step] for step in STEPS] == [1, 1, 1]
        site.verify_history(job)
    site.verify_store()


def test_cancels(site: Site) -> None:
    """Rows 13 and 30: who asks until there is an answer gets a canceled job, wherever the process dies meanwhile."""
    for points in ("cancel.before", "cancel.during", "cancel.after", "finish.before", "finish.during", "finish.after"):
        job_id = site.submit(points, gated="nothing")
        site.until_noted(job_id, "waiting")
        assert site.cancel(job_id) == 202
        job = site.ended(job_id)
        assert site.has_died(points)
        assert (job["status"], job["cancel_reason"], job["error_code"]) == ("canceled", "enough", "canceled")
        assert site.effects(job_id)["third"] == 0
        assert site.cancel(job_id) == 202
        site.verify_history(job)
    site.verify_store()


def test_idle(site: Site) -> None:
    """Row 13: a process that dies with nothing to do leaves nothing that is in the way of the next one."""
    for number in range(2):
        job = site.ended(site.submit(f"idle-{number}"))
        site.kill()
        assert site.job(job["job_id"]) == job
    site.verify_store()


def test_followers(site: Site) -> None:
    """Row 13: who follows a job through the deaths of its process is told each event once, and its end."""
    points = "second.effect+finish.after"
    job_id = site.submit(points, gated="gate")
    follower = Follower(site, job_id)
    site.until_noted(job_id, "waiting")
    follower.until_told(3)
    site.open("gate")
    job = site.ended(job_id)
    follower.join(PATIENCE)
    assert site.has_died(points)
    assert follower.connections >= 2
    assert follower.events == site.verify_history(job)
