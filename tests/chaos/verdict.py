"""What has become of the jobs: none lost, none stuck, none ended twice, and no effect without a reason."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.chaos.load import CALL, Load
from tests.reliability.killing import TERMINAL, Job, effects_in, events_in, verify_history

STEPS = ("first", "second", "third")


class Verdict:
    """Asks a server at `url`, when everything runs again."""

    def __init__(self, url: str, folder: Path) -> None:
        self.states: Counter[str] = Counter()
        self._session = httpx.Client(base_url=url, timeout=CALL, verify=False)  # noqa: S501  # loopback
        self._folder = folder

    def close(self) -> None:
        self._session.close()

    def wait(self, patience: float) -> str | None:
        """Wait until every job has ended; return what is wrong if they do not."""
        deadline = time.monotonic() + patience
        while left := sum(self._total(state) for state in ("pending", "running")):
            if time.monotonic() > deadline:
                return f"{left} jobs are stuck"
            time.sleep(0.2)
        return None

    def faults(self, load: Load) -> Iterator[str]:
        """Yield what is wrong with each job."""
        jobs = self._jobs()
        listed = Counter(job["job_id"] for job in jobs)
        yield from (f"{job_id} was accepted and is lost" for job_id in load.accepted if job_id not in listed)
        yield from (f"{job_id} is there, and was not accepted" for job_id in listed if job_id not in load.accepted)
        yield from (f"{job_id} is listed {times} times" for job_id, times in listed.items() if times > 1)
        effects = effects_in(self._folder)
        for job in jobs:
            self.states[job["status"]] += 1
            try:
                verify_job(job, effects[job["job_id"]], cancelled=job["job_id"] in load.cancelled)
                verify_history(job, events_in(self._session.get(f"/stream/{job['job_id']}").text))
            except AssertionError as error:
                yield f"{job['job_id']} ({job['run_name']}, attempt {job['attempt']}): {error}"

    def _total(self, state: str) -> int:
        try:
            answer = self._session.get("/jobs", params={"status": state, "limit": 1})
            total: int = answer.json()["total"] if answer.is_success else 1
        except httpx.TransportError:
            return 1
        return total

    def _jobs(self) -> list[Job]:
        found: list[Job] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self._session.get("/jobs", params={"limit": 500, **({"cursor": cursor} if cursor else {})}).json()
            found += page["jobs"]
            cursor = page["next_cursor"]
        return found


def verify_job(job: Job, effects: Counter[str], *, cancelled: bool) -> None:
    """See that a job has ended as it may, with the effects that its steps and attempts explain."""
    assert job["status"] in TERMINAL, job["status"]
    assert job["status"] != "failed", job["error"]
    assert job["status"] == "completed" or cancelled, "it was canceled, and nobody has asked for that"
    assert all(effects[step] <= job["attempt"] for step in STEPS), f"its effects were {dict(effects)}"
    if job["status"] == "completed":
        assert job["result"]["outputs"] == {"output": 3}, job["result"]
        assert all(effects[step] for step in STEPS), f"its effects were {dict(effects)}"
