"""GET /runs, GET /runs/{run_id}, and the `capture_override` of a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from asgipipe import Deployment, pipeline
from tests.tracking.serving import arithmetic, fragile, on_a_loop, started

UNKNOWN = "00000000-0000-7000-8000-000000000000"
SUMMARY = [
    *("run_id", "run_name", "pipeline_name", "status", "attempt", "started_at", "completed_at", "execution_time"),
    "error",
]
WHOLE = [*SUMMARY, "parameters", "outputs", "metadata", "steps", "next_step", "logs", "next_log", "omitted"]


def client_of(deployment: Deployment) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(deployment.asgi_app), base_url="http://localhost")


@asynccontextmanager
async def serving(
    target: object, folder: Path, capture: object = "BATCH", **settings: object
) -> AsyncIterator[httpx.AsyncClient]:
    async with started(target, folder, capture, **settings) as deployment, client_of(deployment) as client:
        yield client


async def invoke(client: httpx.AsyncClient, **parameters: object) -> str:
    answer = await client.post("/invoke", json={"parameters": parameters})
    return str(answer.json()["metadata"]["run_id"])


@on_a_loop
async def test_a_run(tmp_path: Path) -> None:
    """A run is shown with all that was recorded of it."""
    async with serving(arithmetic, tmp_path) as client:
        run_id = await invoke(client, x=4)
        answer = await client.get(f"/runs/{run_id.upper()}")
    run = answer.json()
    assert (answer.status_code, list(run)) == (200, WHOLE)
    assert (run["run_id"], run["status"], run["parameters"], run["outputs"]) == (
        run_id,
        "completed",
        {"x": 4},
        {"output": 9},
    )
    assert run["metadata"]["user"] == {"asked": True}
    assert [(step["number"], step["name"], step["outputs"]) for step in run["steps"]] == [
        (1, "double", {"output": 8}),
        (2, "add_one", {"output": 9}),
    ]
    (log,) = run["logs"]
    assert (log["number"], log["level"], log["logger"], log["step_name"], log["message"]) == (
        1,
        "error",
        "user.code",
        "add_one",
        "adding to 8",
    )
    assert run["started_at"].endswith("Z")


@on_a_loop
async def test_parts_are_paged(tmp_path: Path) -> None:
    """Steps and log records come a page at a time."""
    async with serving(arithmetic, tmp_path) as client:
        run_id = await invoke(client, x=4)
        first = (await client.get(f"/runs/{run_id}?limit=1")).json()
        second = (await client.get(f"/runs/{run_id}?limit=1&steps_after={first['next_step']}&logs_after=1")).json()
    assert [step["number"] for page in (first, second) for step in page["steps"]] == [1, 2]
    assert (first["next_step"], second["next_step"]) == (1, None)
    assert (len(first["logs"]), second["logs"]) == (1, [])


@on_a_loop
async def test_the_list(tmp_path: Path) -> None:
    """Runs are listed newest first, by status and pipeline, page by page."""
    async with serving(fragile, tmp_path) as client:
        good = [await invoke(client, fail=False) for _ in range(3)]
        bad = await invoke(client, fail=True)
        whole = (await client.get("/runs")).json()
        assert list(whole["runs"][0]) == SUMMARY
        assert [run["run_id"] for run in whole["runs"]] == [bad, *reversed(good)]
        assert whole["next_cursor"] is None
        failed = (await client.get("/runs?status=failed&pipeline=fragile")).json()["runs"]
        assert [(run["run_id"], run["error"]) for run in failed] == [(bad, "no such luck")]
        assert (await client.get("/runs?pipeline=other")).json() == {"runs": [], "next_cursor": None}
        first = (await client.get("/runs?limit=3")).json()
        second = (await client.get(f"/runs?limit=3&cursor={first['next_cursor']}")).json()
        assert [run["run_id"] for page in (first, second) for run in page["runs"]] == [bad, *reversed(good)]


@on_a_loop
async def test_nothing_recorded(tmp_path: Path) -> None:
    """Reading makes no store: the list is empty, and every run unknown."""
    async with serving(arithmetic, tmp_path, "none") as client:
        assert (await client.get("/runs")).json() == {"runs": [], "next_cursor": None}
        for run_id in (UNKNOWN, "x"):
            answer = await client.get(f"/runs/{run_id}")
            assert (answer.status_code, answer.json()["detail"]) == (404, "There is no recorded run of this id.")
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize("query", ["status=done", "limit=0", "limit=501", "cursor=x", "status=failed&status=failed"])
def test_wrong_queries(tmp_path: Path, query: str) -> None:
    """A query that cannot be right is 400."""

    @on_a_loop
    async def serve() -> None:
        async with serving(arithmetic, tmp_path, "none") as client:
            assert (await client.get(f"/runs?{query}")).status_code == 400

    serve()


@on_a_loop
async def test_who_may_read(tmp_path: Path) -> None:
    """Runs need the key, and other deployments on the same store do not show them."""
    async with serving(arithmetic, tmp_path, auth_key="secret") as client:
        key = {"authorization": "Bearer secret"}
        await client.post("/invoke", json={}, headers=key)
        assert (await client.get("/runs")).status_code == 401
        (run,) = (await client.get("/runs", headers=key)).json()["runs"]
    async with serving(fragile, tmp_path) as client:
        assert (await client.get("/runs")).json()["runs"] == []
        assert (await client.get(f"/runs/{run['run_id']}")).status_code == 404


@on_a_loop
async def test_the_flag(tmp_path: Path) -> None:
    """Without RUNS among the endpoints there are none, while runs are recorded all the same."""
    async with serving(arithmetic, tmp_path, include_default_endpoints=["INVOKE"]) as client:
        await invoke(client)
        assert (await client.get("/runs")).status_code == 404
    async with serving(arithmetic, tmp_path, runs_url_path="/history") as client:
        assert len((await client.get("/history")).json()["runs"]) == 1


@on_a_loop
async def test_silent_deployments(tmp_path: Path) -> None:
    """With `error_messages: false` runs do not say what the pipeline's exceptions said."""
    async with serving(fragile, tmp_path, error_messages=False) as client:
        run_id = await invoke(client, fail=True)
        run = (await client.get(f"/runs/{run_id}")).json()
        (listed,) = (await client.get("/runs")).json()["runs"]
    assert {run["error"], listed["error"], run["steps"][0]["error"]} == {"the pipeline failed"}


@on_a_loop
async def test_large_payloads(tmp_path: Path) -> None:
    """Payloads come with the run up to a MiB; beyond, their sizes do."""

    @pipeline
    def echo(text: str) -> str:
        return text

    async with serving(echo, tmp_path) as client:
        small, large = [await invoke(client, text="x" * size) for size in (200_000, 700_000)]
        whole = (await client.get(f"/runs/{small}")).json()
        cut = (await client.get(f"/runs/{large}")).json()
    assert (len(whole["parameters"]["text"]), len(whole["outputs"]["output"]), whole["omitted"]) == (
        200_000,
        200_000,
        [],
    )
    assert {cut["parameters"] is None, cut["outputs"] is None} == {True, False}
    (omitted,) = cut["omitted"]
    assert (omitted["step_number"], omitted["size"] > 700_000) == (None, True)


@on_a_loop
async def test_overrides(tmp_path: Path) -> None:
    """A request chooses what is recorded of its run, sync or as a job; a wrong choice is 422."""
    async with serving(arithmetic, tmp_path, "none") as client:
        await client.post("/invoke", json={})
        answer = await client.post("/invoke", json={"capture_override": {"mode": "batch"}})
        (run,) = (await client.get("/runs")).json()["runs"]
        assert run["run_id"] == answer.json()["metadata"]["run_id"]
        for wrong in (
            {"mode": "everything"},
            {},
            "full",
            {"mode": "full", "rate": 1},
            {"mode": "sampled", "rate": "1"},
        ):
            answer = await client.post("/invoke", json={"capture_override": wrong})
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["loc"][0] == "capture_override"


@on_a_loop
async def test_forbidden_overrides(tmp_path: Path) -> None:
    """With `allow_capture_override: false` a request that gives one is refused; null is none."""
    async with serving(arithmetic, tmp_path, "none", allow_capture_override=False) as client:
        answer = await client.post("/invoke", json={"capture_override": {"mode": "full"}})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {
                "loc": ["capture_override"],
                "msg": "This deployment does not let a request choose what is recorded",
                "type": "capture",
            }
        ]
        assert (await client.post("/invoke", json={"capture_override": None})).status_code == 200
    assert not (tmp_path / "store.db").exists()
