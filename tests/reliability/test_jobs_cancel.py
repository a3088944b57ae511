"""A cancel in each step of a job, and between them."""

import time

import pytest

from asgipipe.testing.client import soon
from tests.reliability.conftest import MakeSite
from tests.reliability.killing import SERVED, Host, Site, Store

STEPS = ["first", "second", "third"]
PLACES = [place for step in STEPS for place in (step, f"after-{step}")]


def served(name: str) -> Host:
    return Host((f"{SERVED / 'cancelable.py'}:{name}",))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("name", ["cancelable", "cancelable_sync"])
def test_a_cancel_at_every_boundary(make_site: MakeSite, job_store: Store, name: str, elsewhere: bool) -> None:
    """Row 30: cancelled in a step or between two, at its own server or another one, a job is `canceled` within two
    seconds, no later step runs, and what was to be cleaned up is.
    """
    site = make_site(served(name), job_store, ASGIPIPE_JOB_CONCURRENCY=str(len(PLACES)))
    asked = make_site(served(name), job_store, ASGIPIPE_RUN_JOBS="false") if elsewhere else site
    jobs = {place: site.submit(place, place=place) for place in PLACES}
    waiting = site.submit("before", place="first")
    for job_id in jobs.values():
        site.until_noted(job_id, "waiting")
    asked.listed()
    assert asked.cancel(waiting) == 202
    assert site.job(waiting)["status"] == "canceled"
    asked_at = time.monotonic()
    for job_id in jobs.values():
        assert asked.cancel(job_id) == 202
    ended = {place: site.ended(job_id) for place, job_id in jobs.items()}
    assert time.monotonic() - asked_at < soon(2)
    for place, job in ended.items():
        verify(site, job, place)
    assert site.effects(waiting) == {}
    site.verify_store()


def verify(site: Site, job: dict[str, object], place: str) -> None:
    assert (job["status"], job["attempt"], job["cancel_reason"]) == ("canceled", 1, "enough"), job
    begun = STEPS[: STEPS.index(place.removeprefix("after-")) + 1]
    assert site.effects(str(job["job_id"])) == dict.fromkeys([*begun, "waiting", "cleaned", "left"], 1)
    site.verify_history(job)
