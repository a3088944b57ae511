"""What runs leave behind: `capture_override`, the settings, and /runs."""

import asyncio

from asgipipe import pipeline
from asgipipe.testing.client import Answer, Ask, Client, invoke, patience
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.jobs import NOBODY, Record, alike, canceled, ended, submitted, until
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, deployed, tell
from asgipipe.testing.trial import Trial

MEMBERS = [
    *("run_id", "run_name", "pipeline_name", "status", "attempt", "started_at", "completed_at", "execution_time"),
    *("error", "parameters", "outputs", "metadata", "steps", "next_step", "logs", "next_log", "omitted"),
]
BATCH = {"mode": "BATCH"}
"""Everything is recorded, and is there when the answer is."""


def run_id_of(answer: Answer) -> str:
    run_id: str = answer.json()["metadata"]["run_id"]
    return run_id


async def recorded(client: Client, run_id: str, attempt: int = 1) -> Record:
    """Return a run as GET /runs/{run_id} has it, once the attempt has been written to its end."""
    async with patience():
        while not _is_written(answer := await client.get(f"/runs/{run_id}"), attempt):  # noqa: ASYNC110  # in the background
            await asyncio.sleep(0.01)
    run: Record = answer.json()
    return run


def _is_written(answer: Answer, attempt: int) -> bool:
    if answer.status == 404:
        return False
    assert answer.status == 200, answer
    run: Record = answer.json()
    return bool(run["status"] != "running" and run["attempt"] >= attempt)


async def listed(client: Client, query: str = "limit=500") -> list[str]:
    answer = await client.get(f"/runs?{query}")
    assert answer.status == 200, answer
    return [run["run_id"] for run in answer.json()["runs"]]


@scenario(sockets=True, stores=True)
async def nothing_is_recorded_unless_it_is_asked_for(trial: Trial) -> None:
    """By default a run leaves nothing behind, and mode `none` takes back what the settings ask for."""
    usual, recording = await trial.client("through", BEARER), await trial.client("telling", BEARER)
    for client, override in (
        (usual, None),
        (recording, {"mode": "none"}),
        (recording, {"mode": "full", "runs": False}),
    ):
        before = await listed(client)
        run_id = run_id_of(await client.send(invoke({"name": "a"}, capture_override=override)))
        last = run_id_of(await client.send(invoke({"name": "a"}, capture_override=BATCH)))
        assert await listed(client) == [last, *before], override
        unknown = await client.get(f"/runs/{run_id}")
        assert (unknown.status, unknown.problem["type"]) == (404, "urn:asgipipe:not-found"), override


@scenario(sockets=True, stores=True)
async def a_recorded_run_can_be_read(trial: Trial) -> None:
    """With its parameters, outputs, steps, metadata and log records, as on the reference."""
    client, reference = await trial.client("telling", BEARER), await trial.reference("telling", BEARER)
    ask = invoke({"name": "ab"}, run_name="mine", capture_override=BATCH)
    run_id, theirs = run_id_of(await client.send(ask)), run_id_of(await reference.send(ask))
    answer, expected = await client.get(f"/runs/{run_id}"), await reference.get(f"/runs/{theirs}")
    run = answer.json()
    assert list(run) == MEMBERS
    assert (run["run_id"], run["run_name"], run["pipeline_name"]) == (run_id, "mine", "tell")
    assert (run["status"], run["attempt"], run["error"]) == ("completed", 1, None)
    assert run["parameters"] == {"name": "ab", "pause": 0.0, "fail": False, "deltas": 0}
    assert run["outputs"] == {"output": "ab"}
    assert run["metadata"]["deployment_name"] == "telling"
    assert run["metadata"]["user"] == {"letters": 2}
    assert [(step["number"], step["name"], step["status"]) for step in run["steps"]] == [(1, "spell", "completed")]
    (log,) = run["logs"]
    assert (log["level"], log["logger"], log["step_name"], log["message"]) == (
        *("warning", "conformance", "spell"),
        "spelling ab",
    )
    assert alike(answer) == alike(expected)


@scenario(sockets=True, stores=True)
async def the_mode_decides_what_is_recorded(trial: Trial) -> None:
    """Payloads, metadata and logs are there, or not, as the table of the modes has it."""
    client = await trial.client("keyed", BEARER)
    telling = await trial.client("telling", BEARER)
    modes: list[tuple[Record, bool, bool, bool]] = [
        ({"mode": "metadata"}, False, True, False),
        ({"mode": "full"}, True, True, True),
        ({"mode": "REALTIME", "flush_on_step_end": True}, True, True, True),
        ({"mode": "OFF"}, True, False, False),
        ({"mode": "sampled", "rate": 1.0}, True, True, True),
        ({"mode": "CUSTOM", "logs": "all"}, False, False, True),
    ]
    for override, payloads, metadata, logs in modes:
        answer = await telling.send(invoke({"name": "a"}, capture_override=override))
        run = await recorded(telling, run_id_of(answer))
        found = run["outputs"] is not None, run["metadata"] is not None, bool(run["logs"])
        assert found == (payloads, metadata, logs), (override, run)
        assert run["parameters"] is None or payloads, (override, run)
        assert len(run["steps"]) == 1, (override, run)
    for parameters, kept in (({"name": "a"}, False), ({"name": "a", "fail": True}, True)):
        answer = await client.send(invoke(parameters, capture_override={"mode": "errors_only"}))
        last = run_id_of(await client.send(invoke({"name": "a"}, capture_override=BATCH)))
        assert (await listed(client, "limit=2"))[0] == last
        assert ((await client.get(f"/runs/{run_id_of(answer)}")).status == 200) is kept, parameters


@scenario(stores=True)
async def the_request_decides_before_the_pipeline(trial: Trial) -> None:
    """A pipeline's own `capture` holds for its runs, but `capture_override` lies over it."""
    target = pipeline(name="own", capture="BATCH")(_letters)
    deployment = deployed(trial.subject, target, {"store_url": trial.store_url}, name="deciding")
    async with trial.served(deployment) as client:
        by_pipeline = run_id_of(await client.send(invoke({})))
        assert (await client.get(f"/runs/{by_pipeline}")).json()["outputs"] == {"output": "letters"}
        by_request = run_id_of(await client.send(invoke({}, capture_override={"mode": "none"})))
        assert (await client.get(f"/runs/{by_request}")).status == 404
    await deployment.stop()


async def _letters() -> str:
    return "letters"


@scenario(sockets=True)
async def a_capture_that_cannot_be_is_422(trial: Trial) -> None:
    """A mode that there is not, a field of another mode, and any override where the settings forbid them."""
    for name in ("keyed", "limited"):
        client, reference = await trial.client(name, BEARER), await trial.reference(name, BEARER)
        overrides: list[object] = [{"mode": "everything"}, {}, {"mode": "full", "rate": 0.5}, {"modus": "full"}, 1]
        if name == "limited":
            overrides.append({"mode": "full"})
        asks = [
            invoke({"name": "a"}, target=f"/invoke{query}", capture_override=override)
            for override in overrides
            for query in ("", "?mode=async")
        ]
        for ask in asks:
            assert (await client.send(ask)).status == 422, (name, ask.body)
        await assert_same(client, reference, *asks)
        assert (await client.send(invoke({"name": "a"}, capture_override=None))).status == 200, name


@scenario(sockets=True, stores=True)
async def runs_of_jobs_are_recorded_alike(trial: Trial) -> None:
    """A job's run has its id, its last attempt, and how it ended: completed, failed or canceled."""
    client = await trial.client("telling", BEARER)
    done, failed = await submitted(client, {"name": "a"}), await submitted(client, {"name": "a", "fail": True})
    gone = await submitted(client, {"name": "a", "pause": 60.0})
    await until(client, gone, "running")
    await canceled(client, gone)
    for job_id, status, attempt in ((done, "completed", 1), (failed, "failed", 2), (gone, "canceled", 1)):
        job = await ended(client, job_id)
        run = await recorded(client, job_id, attempt)
        assert (run["run_id"], run["status"], run["attempt"]) == (job_id, status, attempt), run
        assert run["run_name"] == job["run_name"]
        assert (run["error"] is None) is (status == "completed"), run


@scenario(sockets=True, stores=True)
async def runs_are_listed_newest_first(trial: Trial) -> None:
    """Pages hold no run twice and leave none out; `status` and `pipeline` choose; what cannot be is a 400."""
    client, reference = await trial.client("through", BEARER), await trial.reference("through", BEARER)
    ids = [run_id_of(await client.send(invoke({"name": "a"}, capture_override=BATCH))) for _ in range(3)]
    failed = run_id_of(await client.send(invoke({"name": "a", "fail": True}, capture_override=BATCH)))
    whole = await listed(client)
    assert whole[:4] == [failed, *reversed(ids)]
    first = (await client.get("/runs?limit=3")).json()
    assert list(first) == ["runs", "next_cursor"]
    assert list(first["runs"][0]) == MEMBERS[: MEMBERS.index("parameters")]
    second = await listed(client, f"limit=3&cursor={first['next_cursor']}")
    assert [run["run_id"] for run in first["runs"]] + second == whole[:6]
    assert (await listed(client, "status=failed&limit=1")) == [failed]
    assert (await listed(client, "status=completed&limit=2")) == [ids[2], ids[1]]
    assert (await listed(client, "pipeline=conform&limit=1")) == [failed]
    assert (await listed(client, "pipeline=other")) == []
    for query in ("limit=0", "limit=501", "status=pending", "cursor=x"):
        assert (await client.get(f"/runs?{query}")).status == 400, query
        await assert_same(client, reference, Ask("GET", f"/runs?{query}"))
    unknown = [Ask("GET", f"/runs/{run_id}") for run_id in (NOBODY, "x", "a%2Fb")]
    for ask in unknown:
        assert (await client.send(ask)).problem["type"] == "urn:asgipipe:not-found", ask
    await assert_same(client, reference, *unknown)


@scenario(in_process=False, stores=True)
async def runs_and_jobs_are_of_one_deployment(trial: Trial) -> None:
    """Deployments that share a store see neither each other's runs nor each other's jobs."""
    settings = {"store_url": trial.store_url, "capture": "BATCH"}
    first, second = (deployed(trial.subject, tell, settings, name=name) for name in ("first", "second"))
    async with trial.served(first) as client, trial.served(second) as other:
        job_id = await submitted(client, {"name": "a"})
        await ended(client, job_id)
        await recorded(client, job_id)
        for target in (f"/jobs/{job_id}", f"/stream/{job_id}", f"/runs/{job_id}"):
            assert (await client.get(target)).status == 200, target
            assert (await other.get(target)).status == 404, target
        assert (await other.get("/jobs")).json()["total"] == 0
        assert await listed(other) == []
    await first.stop()
    await second.stop()
