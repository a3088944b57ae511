import pytest

from asgipipe.errors import HTTPError, StorageFullError, UnavailableError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.jobs import Submission
from asgipipe.jobs.records import JobPage
from asgipipe.jobs.states import JobState
from tests.http.endpoints.stages import Stage, on_stage
from tests.http.wire import Ask

UNKNOWN = "00000000-0000-7000-8000-000000000000"
JOB = [
    *("job_id", "run_id", "run_name", "pipeline_name", "status", "parameters", "created_at", "started_at"),
    *("completed_at", "execution_time", "attempt", "progress", "result", "error", "error_code", "canceled_by"),
    "cancel_reason",
]


def cancel(job_id: str, query: str = "") -> Ask:
    return Ask("POST", f"/jobs/{job_id}/cancel{query}")


def test_a_job() -> None:
    """GET and HEAD answer with the members of the contract, in their order."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add(Submission({"number": 3}, run_name="three"))
        answer = await stage.ask(Ask("GET", f"/jobs/{job}"))
        assert (answer.status, answer.header(b"content-type")) == (200, b"application/json")
        assert list(answer.json()) == JOB
        assert answer.json()["job_id"] == answer.json()["run_id"] == job
        head = await stage.ask(Ask("HEAD", f"/jobs/{job}"))
        assert (head.status, head.body) == (200, b"")
        assert head.header(b"content-length") == answer.header(b"content-length")

    on_stage(scene)


@pytest.mark.parametrize("path", ["/jobs/{}", "/jobs/{}/cancel"])
@pytest.mark.parametrize("job_id", [UNKNOWN, "x", "none", "0192a0f000007000800000000000000"])
def test_no_job(path: str, job_id: str) -> None:
    """An id that nobody knows, and what cannot be one, are 404."""

    async def scene(stage: Stage) -> None:
        method = "POST" if path.endswith("cancel") else "GET"
        answer = await stage.ask(Ask(method, path.format(job_id)))
        assert answer.status == 404
        assert answer.problem["detail"] == "There is no job of this id."
        assert answer.problem.get("job_id") == (UNKNOWN if job_id == UNKNOWN else None)

    on_stage(scene)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/jobs", b"GET, HEAD"),
        ("DELETE", f"/jobs/{UNKNOWN}", b"GET, HEAD"),
        ("GET", f"/jobs/{UNKNOWN}/cancel", b"POST"),
        ("HEAD", f"/jobs/{UNKNOWN}/cancel", b"POST"),
    ],
)
def test_other_methods(method: str, path: str, allow: bytes) -> None:
    """405 says what is allowed."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(Ask(method, path))
        assert (answer.status, answer.header(b"allow")) == (405, allow)

    on_stage(scene)


@pytest.mark.parametrize("path", ["/jobs/", f"/jobs/{UNKNOWN}/", f"/jobs/{UNKNOWN}/cancel/", f"/jobs/{UNKNOWN}/other"])
def test_other_paths(path: str) -> None:
    """Nothing is served at a path with a slash more, or another name."""

    async def scene(stage: Stage) -> None:
        for method in ("GET", "POST"):
            answer = await stage.ask(Ask(method, path))
            assert (answer.status, answer.problem["detail"]) == (404, "Nothing is served at this path.")

    on_stage(scene)


def test_a_page() -> None:
    """The filter, the size and the cursor go to the store, and its page comes back."""
    asked: list[tuple[JobState | None, int, str | None]] = []

    async def scene(stage: Stage) -> None:
        job = stage.jobs.jobs[stage.jobs.add()]

        async def page(*, state: JobState | None = None, limit: int = 50, cursor: str | None = None) -> JobPage:
            asked.append((state, limit, cursor))
            return JobPage([job, job], 7, "next")

        stage.jobs.list = page  # type: ignore[method-assign]
        answer = await stage.ask(Ask("GET", "/jobs?status=running&limit=500&cursor=c"))
        assert list(answer.json()) == ["jobs", "total", "next_cursor"]
        assert [each["job_id"] for each in answer.json()["jobs"]] == [job.id, job.id]
        assert (answer.json()["total"], answer.json()["next_cursor"]) == (7, "next")
        await stage.ask(Ask("GET", "/jobs"))
        assert (await stage.ask(Ask("HEAD", "/jobs"))).body == b""

    on_stage(scene)
    assert asked == [(JobState.RUNNING, 500, "c"), (None, 50, None), (None, 50, None)]


@pytest.mark.parametrize(
    "query",
    [
        *("status=done", "status=", "status=running&status=failed"),
        *("limit=0", "limit=501", "limit=x", "limit=-1", f"cursor={'c' * 201}"),
    ],
)
def test_a_bad_page(query: str) -> None:
    """A status, size or cursor that cannot be is a 400 that names it."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(Ask("GET", f"/jobs?{query}"))
        assert answer.status == 400
        assert query.partition("=")[0] in answer.problem["detail"]

    on_stage(scene)


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", None), ("?reason=", None), ("?reason=too%20late", "too late"), ("?reason=a%00b%ff", "a\ufffdb\ufffd")],
)
def test_a_cancel(query: str, reason: str | None) -> None:
    """202 says what state the job is in; the reason is kept, as text that any store can keep."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        answer = await stage.ask(cancel(job, query))
        assert (answer.status, answer.json()) == (202, {"job_id": job, "status": "pending"})
        assert stage.jobs.canceled == [(job, reason, "client")]

    on_stage(scene)


def test_a_cancel_that_comes_too_late() -> None:
    """A job that has ended is 409, and says which."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, "pipeline_completed")
        answer = await stage.ask(cancel(job))
        assert (answer.status, answer.problem["job_id"]) == (409, job)

    on_stage(scene)


@pytest.mark.parametrize("reason", ["x" * 501, "a&reason=b"])
def test_a_bad_reason(reason: str) -> None:
    """A reason is given once, and has 500 characters at most."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(cancel(stage.jobs.add(), f"?reason={reason}"))
        assert answer.status == 400
        assert stage.jobs.canceled == []

    on_stage(scene)


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [(UnavailableError("The store cannot be reached.", retry_after=2), b"2"), (StorageFullError(), None)],
)
def test_a_store_that_fails(error: HTTPError, retry_after: bytes | None) -> None:
    """A store out of reach is 503 with a time to come back, a full one 507: for reading and writing alike."""

    async def scene(stage: Stage) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise error

        for name in ("get", "list", "cancel"):
            setattr(stage.jobs, name, fail)
        for asked in (Ask("GET", "/jobs"), Ask("GET", f"/jobs/{UNKNOWN}"), cancel(UNKNOWN)):
            answer = await stage.ask(asked)
            assert (answer.status, answer.header(b"retry-after")) == (error.status, retry_after)
            assert answer.problem["detail"] == error.detail

    on_stage(scene)


def test_the_key() -> None:
    """None of it is open."""

    async def scene(stage: Stage) -> None:
        for method, path in (("GET", "/jobs"), ("GET", f"/jobs/{uuid7()}"), ("GET", f"/stream/{uuid7()}")):
            assert (await stage.ask(Ask(method, path))).status == 401
        assert (await stage.ask(cancel(uuid7()))).status == 401

    on_stage(scene, {"auth_key": "secret"})


def test_what_reads_the_store_is_throttled() -> None:
    """The list of jobs costs more than a probe, so it waits for its turn."""

    async def scene(stage: Stage) -> None:
        exempt = stage.deployment.app_runner._exempt(stage.deployment.app_runner.routes.endpoints)
        assert "/health" in exempt
        assert "/jobs" not in exempt

    on_stage(scene)
