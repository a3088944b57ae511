"""Runs that are accepted now and executed later: POST /invoke with `mode=async`, and /jobs."""

import asyncio
import re
import time

from asgipipe.jobs.store import JobStore
from asgipipe.stores.registry import database
from asgipipe.testing.client import JSON, Ask, Headers, invoke, soon
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.headers import assert_once
from asgipipe.testing.jobs import (
    NOBODY,
    alike,
    canceled,
    ended,
    followed,
    known,
    submission,
    submitted,
    until,
)
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, conform, deployed
from asgipipe.testing.trial import Trial

MEMBERS = [
    *("job_id", "run_id", "run_name", "pipeline_name", "status", "parameters", "created_at", "started_at"),
    *("completed_at", "execution_time", "attempt", "progress", "result", "error", "error_code"),
    *("canceled_by", "cancel_reason"),
]
TIMES = ("created_at", "started_at", "completed_at")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch

ASYNC: Headers = {"prefer": "respond-async"}
STREAM: Headers = {"accept": "text/event-stream"}
MANNERS: list[tuple[str, Headers, int, str]] = [
    ("", {}, 200, "application/json"),
    ("mode=sync", {}, 200, "application/json"),
    ("mode=async", {}, 202, "application/json"),
    ("mode=stream", {}, 200, "text/event-stream"),
    ("", ASYNC, 202, "application/json"),
    ("", STREAM, 200, "text/event-stream"),
    ("", {**ASYNC, **STREAM}, 200, "text/event-stream"),
    ("mode=sync", {**ASYNC, **STREAM}, 200, "application/json"),
    ("mode=async", {**ASYNC, **STREAM}, 202, "application/json"),
    ("mode=stream", ASYNC, 200, "text/event-stream"),
    ("", {"accept": "*/*"}, 200, "application/json"),
]
"""Query and headers of a POST /invoke, and the status and type that its answer has."""

GONE = 987_654_321
"""The number of a worker that nobody has registered, and that is therefore dead."""


@scenario(sockets=True)
async def the_way_to_run_is_chosen_by_mode_accept_and_prefer(trial: Trial) -> None:
    """Each of them alone asks for a job or a stream; `mode` wins over `Accept`, and that over `Prefer`."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name, BEARER), await trial.reference(name, BEARER)
        for query, headers, status, kind in MANNERS:
            ask = submission({"name": "a"}, query, headers)
            answer, expected = await client.send(ask), await reference.send(ask)
            case = (name, query, headers)
            assert (answer.status, answer.header("content-type")) == (status, kind), (case, answer)
            assert (answer.header("vary") or "").startswith("Accept, Prefer"), (case, answer)
            applied = "respond-async" if status == 202 and "prefer" in headers else None
            assert answer.header("preference-applied") == applied, (case, answer)
            assert sorted(answer.names) == sorted(expected.names), case
            assert_once(answer)
        for query in ("mode=later", "mode=", "mode=async&mode=async", "mode=ASYNC", "mode=async&delay=soon"):
            await assert_same(client, reference, submission({"name": "a"}, query))
            assert (await client.send(submission({"name": "a"}, query))).status == 400, query


@scenario(sockets=True, stores=True)
async def an_accepted_job_says_where_it_is(trial: Trial) -> None:
    """202 has the links to the job and its events, which answer, and Location; both are where clients find them."""
    for name in ("keyed", "through"):
        client = await trial.client(name, BEARER)
        answer = await client.send(submission({"name": "a"}, run_name="mine"))
        assert answer.status == 202, answer
        accepted = answer.json()
        job_id, place = accepted["job_id"], f"{trial.form.proxy}{client.prefix}"
        assert list(accepted.items()) == [
            ("job_id", job_id),
            ("run_id", job_id),
            ("status", "pending"),
            ("status_url", f"{place}/jobs/{job_id}"),
            ("stream_url", f"{place}/stream/{job_id}"),
        ]
        assert answer.header("location") == accepted["status_url"]
        assert (await known(client, job_id))["run_name"] == "mine"
        assert (await followed(client, job_id)).types[-1] == "pipeline_completed"


@scenario(sockets=True, stores=True)
async def a_job_is_described_by_the_contracts_members(trial: Trial) -> None:
    """Its envelope is that of its run; ids, times and parameters are those it was accepted with."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    job = await ended(client, await submitted(client, {"name": "ab", "times": 2}))
    assert list(job) == MEMBERS
    assert job["job_id"] == job["run_id"]
    assert (job["status"], job["error"], job["error_code"], job["attempt"]) == ("completed", None, None, 1)
    assert job["parameters"] == {"name": "ab", "times": 2, "ratio": None, "pause": 0.0, "fail": False}
    assert all(RFC_3339(job[name]) for name in TIMES), job
    assert job["created_at"] <= job["started_at"] <= job["completed_at"], job
    assert job["run_name"].startswith("conform-2"), job
    metadata = job["result"]["metadata"]
    assert job["result"]["outputs"] == {"output": "abab"}
    assert (metadata["run_id"], metadata["run_name"]) == (job["run_id"], job["run_name"])
    assert metadata["parameters_used"] == job["parameters"]
    theirs = await ended(reference, await submitted(reference, {"name": "ab", "times": 2}))
    answer, expected = await client.get(f"/jobs/{job['job_id']}"), await reference.get(f"/jobs/{theirs['job_id']}")
    assert alike(answer) == alike(expected)


@scenario(sockets=True, stores=True)
async def a_job_that_fails_says_why(trial: Trial) -> None:
    """Its pipeline raised, or its time was over: it has failed, with the envelope, the message and the code."""
    client = await trial.client("keyed", BEARER)
    raised = await submitted(client, {"name": "a", "fail": True})
    late = await submitted(client, {"name": "a", "pause": 60.0}, timeout=0.05)
    for job_id, code, message in ((raised, "failed", "told to fail"), (late, "timeout", "0.05")):
        job = await ended(client, job_id)
        assert (job["status"], job["error_code"]) == ("failed", code), job
        assert message in job["error"], job
        assert (job["result"]["success"], job["result"]["outputs"]) == (False, None), job
        assert job["result"]["error"] == job["error"], job


@scenario(sockets=True)
async def what_is_refused_is_no_job(trial: Trial) -> None:
    """A body that does not fit is refused as it is when the run is waited for, and leaves no job."""
    client = await trial.client("keyed", BEARER)
    before = (await client.get("/jobs")).json()["total"]
    for kind, body in (
        (JSON, b"{"),
        (JSON, b'{"parameters":{}}'),
        (JSON, b'{"parameters":{"name":"a"},"timeout":0}'),
        ({"content-type": "text/plain"}, b"{}"),
    ):
        waited = await client.send(Ask("POST", "/invoke", kind, body))
        for mode in ("async", "stream"):
            answer = await client.send(Ask("POST", f"/invoke?mode={mode}", kind, body))
            assert 400 <= answer.status < 500, answer
            assert (answer.status, answer.body) == (waited.status, waited.body), mode
    assert (await client.get("/jobs")).json()["total"] == before


@scenario(sockets=True, stores=True)
async def jobs_are_listed_newest_first(trial: Trial) -> None:
    """Pages hold no job twice and leave none out; `total` and `status` count alike; a sync run is not among them."""
    client = await trial.client("through", BEARER)
    ids = [await submitted(client, {"name": str(number)}) for number in range(3)]
    failed = await submitted(client, {"name": "a", "fail": True})
    for job_id in (*ids, failed):
        await ended(client, job_id)
    waited = (await client.send(invoke({"name": "a"}))).json()["metadata"]["run_id"]
    assert (await client.get(f"/jobs/{waited}")).status == 404
    whole = (await client.get("/jobs?limit=500")).json()
    assert list(whole) == ["jobs", "total", "next_cursor"]
    listed = [job["job_id"] for job in whole["jobs"]]
    assert listed[:4] == [failed, *reversed(ids)]
    assert (len(listed), whole["next_cursor"]) == (whole["total"], None)
    assert whole["jobs"][0] == await known(client, failed)
    first = (await client.get("/jobs?limit=3")).json()
    second = (await client.get(f"/jobs?limit=3&cursor={first['next_cursor']}")).json()
    assert [job["job_id"] for page in (first, second) for job in page["jobs"]] == listed[:6]
    assert {page["total"] for page in (first, second)} == {whole["total"]}
    for status in ("pending", "running", "completed", "failed", "canceled"):
        page = (await client.get(f"/jobs?status={status}&limit=500")).json()
        expected = [job["job_id"] for job in whole["jobs"] if job["status"] == status]
        assert ([job["job_id"] for job in page["jobs"]], page["total"]) == (expected, len(expected)), status


@scenario(sockets=True)
async def a_list_of_jobs_that_cannot_be_is_400(trial: Trial) -> None:
    """A status, limit or cursor that there is not: the same problem as on the reference; an unknown job is a 404."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    for query in ("limit=0", "limit=501", "limit=x", "status=done", "cursor=x", "limit=1&limit=2"):
        assert (await client.get(f"/jobs?{query}")).status == 400, query
        await assert_same(client, reference, Ask("GET", f"/jobs?{query}"))
    unknown = [
        Ask(method, target.format(job_id))
        for job_id in (NOBODY, "x", "%00", "a%2Fb")
        for method, target in (("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("GET", "/stream/{}"))
    ]
    for ask in unknown:
        assert (await client.send(ask)).problem["type"] == "urn:asgipipe:not-found", ask
    assert (await client.get(f"/jobs/{NOBODY}")).problem["job_id"] == NOBODY
    await assert_same(client, reference, *unknown)


@scenario(sockets=True, stores=True)
async def a_job_can_be_cancelled(trial: Trial) -> None:
    """Waiting it is canceled at once, running within 2 s; once more is a 202, and one that has ended is a 409."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    waiting = await submitted(client, {"name": "a"}, "delay=60")
    running = await submitted(client, {"name": "a", "pause": 60.0})
    await until(client, running, "running")
    assert (await known(client, waiting))["status"] == "pending"
    for job_id, told in ((waiting, {"canceled"}), (running, {"running", "canceled"})):
        answer = await client.send(Ask("POST", f"/jobs/{job_id}/cancel?reason=too%20late"))
        assert (answer.status, list(answer.json())) == (202, ["job_id", "status"]), answer
        assert (answer.json()["job_id"], answer.json()["status"] in told) == (job_id, True), answer
        async with asyncio.timeout(soon(2.0)):
            job = await ended(client, job_id)
        assert (job["status"], job["error_code"], job["cancel_reason"]) == ("canceled", "canceled", "too late"), job
        assert job["canceled_by"] == "client"
        assert job["result"]["success"] is False, job
        again = await client.send(Ask("POST", f"/jobs/{job_id}/cancel"))
        assert (again.status, again.json()) == (202, {"job_id": job_id, "status": "canceled"}), again
    done, theirs = await submitted(client, {"name": "a"}), await submitted(reference, {"name": "a"})
    await ended(client, done)
    await ended(reference, theirs)
    refused = await client.send(Ask("POST", f"/jobs/{done}/cancel"))
    expected = await reference.send(Ask("POST", f"/jobs/{theirs}/cancel"))
    assert (refused.status, refused.problem["job_id"]) == (409, done), refused
    assert alike(refused) == alike(expected)


@scenario(sockets=True, stores=True)
async def more_jobs_than_may_wait_are_429(trial: Trial) -> None:
    """A job beyond `max_pending_jobs` is refused with Retry-After; there is room again when one has gone."""
    client, reference = await trial.client("limited"), await trial.reference("limited")
    answers = []
    for side in (client, reference):
        running = await submitted(side, {"name": "a", "pause": 60.0})
        await until(side, running, "running")
        waiting = await submitted(side, {"name": "a"})
        for mode in ("async", "stream"):
            refused = await side.send(submission({"name": "a"}, f"mode={mode}"))
            assert refused.status == 429, refused
            assert int(refused.header("retry-after") or 0) >= 1
            assert refused.problem["type"] == "urn:asgipipe:too-many-requests"
            answers.append(refused.body)
        assert (await known(side, waiting))["status"] == "pending"
        await canceled(side, waiting, running)
        assert (await ended(side, await submitted(side, {"name": "a"})))["status"] == "completed"
    assert len(set(answers)) == 1, answers


@scenario(in_process=False, stores=True)
async def a_job_whose_workers_were_lost_is_interrupted(trial: Trial) -> None:
    """The last attempt that a job may have was a dead worker's: it ends as failed, with its own code and one event."""
    deployment = deployed(trial.subject, conform, {"store_url": trial.store_url}, name="interrupted")
    async with trial.served(deployment) as client:
        job_id = await submitted(client, {"name": "a"}, "max_attempts=1&delay=60")
        await _claimed_by_a_dead_worker(trial.store_url, deployment.deployment.id, job_id)
        text = await followed(client, job_id)
        job = await known(client, job_id)
        assert (job["status"], job["error_code"]) == ("failed", "interrupted"), job
        assert text.types == ["pipeline_failed"]
        assert text.events[0]["data"] == job["result"]
    await deployment.stop()


@scenario(sockets=True)
async def metrics_count_jobs(trial: Trial) -> None:
    """Jobs are counted by their state, those that completed, failed or were canceled among the executions too."""
    client = await trial.client("keyed", BEARER)
    before = (await client.get("/metrics")).json()
    await ended(client, await submitted(client, {"name": "a"}))
    await ended(client, await submitted(client, {"name": "a", "fail": True}))
    running = await submitted(client, {"name": "a", "pause": 60.0})
    await until(client, running, "running")
    await canceled(client, running)
    after = (await client.get("/metrics")).json()
    for name in ("successful", "failed", "canceled"):
        assert after[f"{name}_executions"] == before[f"{name}_executions"] + 1, (name, before, after)
    text = (await client.get("/metrics", accept="text/plain")).body.decode()
    for state in ("pending", "running", "completed", "failed", "canceled"):
        assert re.search(rf'^asgipipe_jobs{{[^}}]*state="{state}"}} \d+', text, re.MULTILINE), (state, text)


@scenario(sockets=True)
async def jobs_are_where_the_settings_put_them(trial: Trial) -> None:
    """`jobs_url_path` and `stream_url_path` hold, links included; the usual paths are then unknown."""
    client = await trial.client("moved")
    answer = await client.send(invoke({"name": "a"}, target="/root/api/v1/run?mode=async"))
    assert answer.status == 202, answer
    place, job_id = f"{trial.form.proxy}{client.prefix}", answer.json()["job_id"]
    assert answer.header("location") == f"{place}/root/api/v1/tasks/{job_id}"
    assert answer.json()["stream_url"] == f"{place}/root/api/v1/events/{job_id}"
    for target, usual in (("tasks", "jobs"), ("events", "stream"), ("tasks", "jobs"), ("history", "runs")):
        below = "" if target == "history" else f"/{job_id}"
        assert (await client.get(f"/root/api/v1/{target}{below}")).status == 200, target
        for path in (f"/root/api/v1/{usual}{below}", f"/{usual}{below}", f"/root/{usual}{below}"):
            assert (await client.get(path)).status == 404, path


@scenario(sockets=True)
async def what_is_read_of_jobs_answers_head_and_names_its_methods(trial: Trial) -> None:
    """HEAD is GET without the body, another method a 405 with Allow, and a slash at the end another path."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    job_id = await submitted(client, {"name": "a"})
    await ended(client, job_id)
    for target in ("/jobs", f"/jobs/{job_id}", f"/stream/{job_id}", "/runs"):
        got, head = await client.get(target), await client.send(Ask("HEAD", target))
        assert (head.status, head.body) == (got.status, b"") == (200, b""), head
        assert sorted(head.names) == sorted(got.names), target
        assert_once(head)
        assert (await client.send(Ask("DELETE", target))).header("allow") == "GET, HEAD", target
        assert (await client.get(f"{target}/")).status == 404, target
    assert (await client.get(f"/jobs/{job_id}/cancel")).header("allow") == "POST"
    fixed = [f"/jobs/{NOBODY}", f"/stream/{NOBODY}", "/jobs", "/runs", f"/runs/{NOBODY}", f"/jobs/{NOBODY}/cancel"]
    await assert_same(client, reference, *(Ask("PUT", target) for target in fixed))


@scenario()
async def without_their_endpoints_jobs_are_accepted_without_links(trial: Trial) -> None:
    """Where JOBS, STREAM and RUNS are switched off their paths are unknown, and 202 has no links to them."""
    settings = {"include_default_endpoints": ["INVOKE", "HEALTH"], "store_url": trial.store_url}
    deployment = deployed(trial.subject, conform, settings, name="without")
    async with trial.served(deployment) as client:
        answer = await client.send(submission({"name": "a"}))
        assert (answer.status, answer.header("location")) == (202, None), answer
        assert (answer.json()["status_url"], answer.json()["stream_url"]) == (None, None), answer
        for target in ("/jobs", f"/jobs/{answer.json()['job_id']}", f"/stream/{NOBODY}", "/runs"):
            assert (await client.get(target)).status == 404, target
    await deployment.stop()


@scenario()
async def a_store_that_cannot_be_used_is_503(trial: Trial) -> None:
    """Jobs are refused with Retry-After, sync runs go on, and nothing of the store's place is told."""
    deployment = deployed(trial.subject, conform, {"store_url": f"{__file__}/below-a-file"}, name="stranded")
    async with trial.served(deployment) as client:
        for ask in (
            submission({"name": "a"}),
            submission({"name": "a"}, "mode=stream"),
            submission({"name": "a"}, "", {"idempotency-key": "k"}),
        ):
            refused = await client.send(ask)
            assert (refused.status, refused.problem["type"]) == (503, "urn:asgipipe:unavailable"), refused
            assert int(refused.header("retry-after") or 0) >= 1
            assert b"below-a-file" not in refused.body
            assert_once(refused)
        assert (await client.send(invoke({"name": "a"}))).status == 200
    await deployment.stop()


@scenario(stores=True)
async def a_drain_refuses_jobs_and_hands_back_what_runs(trial: Trial) -> None:
    """/ready and new jobs are 503, streams end, and at its end what still runs is pending, for the next start."""
    settings = {"store_url": trial.store_url, "drain_timeout": 0.05}
    deployment = deployed(trial.subject, conform, settings, name="draining")
    async with trial.served(deployment) as client:
        job_id = await submitted(client, {"name": "a", "pause": 60.0})
        await until(client, job_id, "running")
        following = asyncio.create_task(client.get(f"/stream/{job_id}"))
        deployment.lifecycle.begin_drain()
        assert (await client.get("/ready")).status == 503
        for mode in ("async", "stream"):
            refused = await client.send(submission({"name": "a"}, f"mode={mode}"))
            assert (refused.status, refused.problem["type"]) == (503, "urn:asgipipe:unavailable"), refused
            assert int(refused.header("retry-after") or 0) >= 1
        await deployment.stop()
        answer = await following
        assert answer.complete, answer
        assert b"pipeline_canceled" not in answer.body
    await deployment.stop()
    if trial.store_url != "memory:":
        again = deployed(trial.subject, conform, {**settings, "run_jobs": False}, name="draining")
        async with trial.served(again) as client:
            assert (await known(client, job_id))["status"] == "pending"
            await canceled(client, job_id)
        await again.stop()


async def _claimed_by_a_dead_worker(store_url: str, deployment: str, job_id: str) -> None:
    """Do what a worker in another process did before it was killed."""
    elsewhere = database(store_url)
    await elsewhere.open()
    try:
        tomorrow = JobStore(elsewhere, deployment, clock=lambda: time.time() + 86_400)
        assert await tomorrow.claim_one(GONE, job_id) is not None
    finally:
        await elsewhere.close()
