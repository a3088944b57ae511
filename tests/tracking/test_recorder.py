import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from asgipipe import get_step_context, pipeline, step
from asgipipe.jobs.jobs import Submission
from asgipipe.jobs.records import Job
from asgipipe.settings import DeploymentSettings
from asgipipe.tracking.policy import plan_of
from tests.http.wire import until
from tests.tracking.serving import add_one, arithmetic, counts, double, fragile, on_a_loop, recorded, run_once, started


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Log everything the user's code writes."""
    logger = logging.getLogger("user")
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(logging.NOTSET)


NOTHING = {"runs": 0, "run_steps": 0, "artifacts": 0, "run_logs": 0}


@pytest.mark.parametrize(
    "capture", ["none", {"mode": "REALTIME", "runs": "off"}, {"mode": "full", "persistence": "memory"}]
)
@on_a_loop
async def test_none_writes_nothing(tmp_path: Path, capture: object) -> None:
    """Mode none and its synonyms make no file, no folder and no handler."""
    before = list(logging.getLogger().handlers)
    async with started(arithmetic, tmp_path, capture) as deployment:
        run = await deployment.service.invoke({"x": 1})
        assert run.outputs_json == b'{"output":3}'
        assert logging.getLogger().handlers == before
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # a test may block


@pytest.mark.parametrize(
    ("capture", "payloads", "metadata", "logs"),
    [
        ("metadata", False, True, ["adding to 4"]),
        ("full", True, True, ["doubling 2", "adding to 4"]),
        ("REALTIME", True, True, ["doubling 2", "adding to 4"]),
        ({"mode": "full", "flush_on_step_end": True}, True, True, ["doubling 2", "adding to 4"]),
        ("BATCH", True, True, ["doubling 2", "adding to 4"]),
        ("OFF", True, False, []),
        ("sampled(1)", True, True, ["doubling 2", "adding to 4"]),
        ({"mode": "CUSTOM", "runs": True}, False, False, []),
        ({"mode": "CUSTOM", "payloads": True}, True, False, []),
        ({"mode": "CUSTOM", "metadata": True}, False, True, []),
        ({"mode": "CUSTOM", "logs": "errors"}, False, False, ["adding to 4"]),
    ],
)
@on_a_loop
async def test_what_each_mode_keeps(
    tmp_path: Path, capture: object, payloads: bool, metadata: bool, logs: list[str]
) -> None:
    """Each mode keeps what the table of policies says, and nothing else."""
    run_id = await run_once(arithmetic, tmp_path, capture, x=2)
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert (run.status, run.pipeline, run.attempt, run.error) == ("completed", "arithmetic", 1, None)
    assert [(one.number, one.name, one.status, one.attempt) for one in run.steps] == [
        (1, "double", "completed", 1),
        (2, "add_one", "completed", 1),
    ]
    assert (run.parameters, run.outputs) == ((b'{"x":2}', b'{"output":5}') if payloads else (None, None))
    assert [one.outputs for one in run.steps] == ([b'{"output":4}', b'{"output":5}'] if payloads else [None, None])
    if metadata:
        assert json.loads(run.metadata or b"{}")["user"] == {"asked": True}
        assert [one.metadata for one in run.steps] == [b'{"doubled":2}', None]
    else:
        assert [run.metadata, *(one.metadata for one in run.steps)] == [None, None, None]
    assert [log.message for log in run.logs] == logs
    assert run.started_at <= run.steps[0].started_at <= run.steps[1].started_at <= (run.completed_at or 0)


@on_a_loop
async def test_errors_only_keeps_whole_failed_runs(tmp_path: Path) -> None:
    """A run that fails is there with its steps, payloads and logs, one that does not is not."""
    async with started(fragile, tmp_path, "errors_only") as deployment:
        good = await deployment.service.invoke({"fail": False})
        assert not (tmp_path / "store.db").exists()
        bad = await deployment.service.invoke({"fail": True})
    assert await asyncio.to_thread(recorded, tmp_path, good.id) is None
    run = await asyncio.to_thread(recorded, tmp_path, bad.id)
    assert run is not None
    assert (run.status, run.error, run.parameters, run.outputs) == ("failed", "no such luck", b'{"fail":true}', None)
    (failed,) = run.steps
    assert (failed.name, failed.status, failed.attempt, failed.error) == ("flaky", "failed", 3, "no such luck")
    assert [log.message for log in run.logs] == ["trying"] * 3
    assert {log.step_name for log in run.logs} == {"flaky"}


def test_sampling_is_seeded_and_right() -> None:
    """Of many runs a tenth is taken: the same ones for one seed, others for another."""
    texts = ("sampled(0.1)", "sampled(0.1, 0)", "sampled(0.1, 1)")
    plans = [plan_of(DeploymentSettings.model_validate({"capture": text}).capture) for text in texts]
    ids = [f"01a1fc30-0b91-7000-9dd6-{number:012x}" for number in range(20_000)]
    first, same, other = ({run_id for run_id in ids if plan is not None and plan.takes(run_id)} for plan in plans)
    assert first == same
    # Five standard deviations of a binomial distribution: sqrt(20000 * 0.1 * 0.9) is 42.
    assert abs(len(first) - 2000) < 212
    assert abs(len(other) - 2000) < 212
    assert abs(len(first & other) - 200) < 80


@on_a_loop
async def test_sampled_runs(tmp_path: Path) -> None:
    """With rate 0 nothing is written, with a rate between the runs that the seed chooses."""
    async with started(arithmetic, tmp_path / "none", "sampled(0)") as deployment:
        await deployment.service.invoke({"x": 1})
    assert not (tmp_path / "none").exists()
    async with started(arithmetic, tmp_path, "sampled(0.5, 3)") as deployment:
        runs = [(await deployment.service.invoke({"x": 1})).id for _ in range(40)]
        plan = deployment.service._recorder.plan  # type: ignore[attr-defined]
    assert counts(tmp_path)["runs"] == sum(plan.takes(run_id) for run_id in runs)


@on_a_loop
async def test_overrides(tmp_path: Path) -> None:
    """A request's policy takes the place of the deployment's, both ways."""
    async with started(arithmetic, tmp_path, "none") as deployment:
        await deployment.service.invoke({"x": 1})
        kept = await deployment.service.invoke({"x": 1}, capture=b'{"mode":"metadata"}')
    run = await asyncio.to_thread(recorded, tmp_path, kept.id)
    assert run is not None
    assert run.parameters is None
    async with started(arithmetic, tmp_path, "full") as deployment:
        await deployment.service.invoke({"x": 1}, capture=b'{"mode":"none"}')
    assert counts(tmp_path)["runs"] == 1


@on_a_loop
async def test_overrides_can_be_forbidden(tmp_path: Path) -> None:
    """What a request says is not heard where it is not allowed, whatever way it came."""
    async with started(arithmetic, tmp_path, "none", allow_capture_override=False) as deployment:
        await deployment.service.invoke({"x": 1}, capture=b'{"mode":"full"}')
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize("capture", ["BATCH", {"mode": "full", "flush_on_step_end": True}])
@on_a_loop
async def test_waiting_for_the_store(tmp_path: Path, capture: object) -> None:
    """When a step has ended, and when the run has, everything until then is in the store."""
    seen: list[dict[str, int]] = []

    @pipeline
    async def looking() -> int:
        value = await add_one(1)
        seen.append(counts(tmp_path))
        return value

    @pipeline
    def looking_in_a_thread() -> int:
        value = double(1)
        seen.append(counts(tmp_path))
        return value

    for target in (looking, looking_in_a_thread):
        async with started(target, tmp_path, capture) as deployment:
            run = await deployment.service.invoke({})
            assert run.error is None
            seen.append(counts(tmp_path))
    assert [(one["runs"], one["run_steps"]) for one in seen] == [(1, 1), (1, 1), (2, 2), (2, 2)]


@on_a_loop
async def test_nothing_waits_in_the_background(tmp_path: Path) -> None:
    """A pipeline that does not block is recorded without being made to wait, whatever the mode."""

    @pipeline(blocking=False)
    def quick(x: int) -> int:
        return double(x)

    run_id = await run_once(quick, tmp_path, "BATCH", x=4)
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert [one.outputs for one in run.steps] == [b'{"output":8}']


@on_a_loop
async def test_steps_side_by_side(tmp_path: Path) -> None:
    """Submitted and mapped steps are recorded, each with its own number, outputs and metadata."""

    @pipeline
    def fanned() -> list[int]:
        return double.map(range(20)).result()

    run_id = await run_once(fanned, tmp_path, "full")
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert sorted(one.number for one in run.steps) == list(range(1, 21))
    assert {(one.outputs, one.metadata) for one in run.steps} == {
        (b'{"output":%d}' % (2 * x), b'{"doubled":%d}' % x) for x in range(20)
    }
    assert len(run.logs) == 20
    assert {log.step_name for log in run.logs} == {"double"}


@on_a_loop
async def test_streams(tmp_path: Path) -> None:
    """Generator steps are recorded with the value of all their items, awaited or iterated over."""

    @step
    async def letters() -> AsyncIterator[str]:
        for letter in "abc":
            yield letter

    @pipeline
    async def spelling() -> str:
        whole: str = await letters()  # type: ignore[misc]
        return whole + "".join([letter async for letter in letters()])

    run_id = await run_once(spelling, tmp_path, "full")
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert run.outputs == b'{"output":"abcabc"}'
    assert [json.loads(one.outputs or b"null") for one in run.steps] == [{"output": "abc"}, {"output": "abc"}]


@on_a_loop
async def test_running_runs_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes long is in the store while it runs, with its steps, and then with its end."""
    monkeypatch.setattr("asgipipe.tracking.recorder._LOOK", 0.02)
    go_on = asyncio.Event()

    @step
    async def waiting() -> None:
        await go_on.wait()

    @pipeline
    async def long() -> None:
        double(1)
        await waiting()

    async with started(long, tmp_path, "full") as deployment:
        task = asyncio.create_task(deployment.service.invoke({}, run_id="01a1fc30-0b91-7000-9dd6-68851ed2873f"))
        await until(lambda: (tmp_path / "store.db").exists() and counts(tmp_path)["run_steps"] == 2)
        run = await asyncio.to_thread(recorded, tmp_path, "01a1fc30-0b91-7000-9dd6-68851ed2873f")
        assert run is not None
        assert (run.status, run.completed_at) == ("running", None)
        assert [(one.name, one.status) for one in run.steps] == [("double", "completed"), ("waiting", "running")]
        go_on.set()
        await task
    run = await asyncio.to_thread(recorded, tmp_path, run.id)
    assert run is not None
    assert (run.status, [one.status for one in run.steps]) == ("completed", ["completed", "completed"])
    assert [log.message for log in run.logs] == ["doubling 1"]


@on_a_loop
async def test_cancelled_runs(tmp_path: Path) -> None:
    """A run that is cancelled, by a stop for instance, is recorded as that, and the stop waits for it."""

    @step
    async def waiting() -> None:
        await asyncio.Event().wait()

    @pipeline
    async def endless() -> None:
        await waiting()

    async with started(endless, tmp_path, "full") as deployment:
        task = asyncio.create_task(deployment.service.invoke({}))
        await asyncio.sleep(0)
    run = await asyncio.to_thread(recorded, tmp_path, (await task).id)
    assert run is not None
    assert run.status == "canceled"


@on_a_loop
async def test_later_attempts_replace_earlier_ones(tmp_path: Path) -> None:
    """What an attempt before has left goes, and a stale attempt that comes late changes nothing."""
    run_id = "01a1fc30-0b91-7000-9dd6-68851ed2873f"
    async with started(fragile, tmp_path, "full") as deployment:
        invoke = deployment.service.invoke
        for attempt, fail in ((1, True), (3, False), (2, True)):
            await invoke({"fail": fail}, run_id=run_id, background=True, attempt=attempt)
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert (run.attempt, run.status, [one.status for one in run.steps]) == (3, "completed", ["completed"])
    assert len(run.logs) == 1


@on_a_loop
async def test_jobs_are_recorded(tmp_path: Path) -> None:
    """A job is recorded under its own id, with the policy of its request."""
    async with started(arithmetic, tmp_path, "none") as deployment:
        jobs = deployment.service.jobs
        job = await jobs.submit(Submission({"x": 3}, capture=b'{"mode":"full"}'))
        assert isinstance(job, Job)
        async for _ in jobs.follow(job.id):
            pass
    run = await asyncio.to_thread(recorded, tmp_path, job.id)
    assert run is not None
    assert (run.status, run.attempt, run.outputs) == ("completed", 1, b'{"output":7}')


@on_a_loop
async def test_metadata_is_bounded(tmp_path: Path) -> None:
    """Metadata that JSON cannot hold, or too much of it, is refused where it is added, captured or not."""

    @pipeline
    async def adding(what: str) -> str:
        values: dict[str, object] = {"large": "x" * 70_000, "wrong": object(), "surrogate": "\ud800"}
        try:
            get_step_context().add_metadata({what: values[what]})
        except ValueError as error:
            return str(error)
        return "accepted"

    for capture in ("none", "full"):
        async with started(adding, tmp_path, capture) as deployment:
            large = await deployment.service.invoke({"what": "large"})
            others = [await deployment.service.invoke({"what": what}) for what in ("wrong", "surrogate")]
        assert b"65536 bytes" in (large.outputs_json or b"")
        for other in others:
            assert b"metadata is what JSON can hold" in (other.outputs_json or b"")


@on_a_loop
async def test_values_without_json(tmp_path: Path) -> None:
    """A step may return anything: what has no JSON form is told by its class, and the run goes on."""

    @step
    def odd(kind: str) -> object:
        cycle: list[object] = []
        cycle.append(cycle)
        return {"object": threading.Lock(), "cycle": cycle, "nan": float("nan"), "bytes": b"\xff"}[kind]

    @pipeline
    def all_odd() -> int:
        for kind in ("object", "cycle", "nan", "bytes"):
            odd(kind)
        return 1

    run_id = await run_once(all_odd, tmp_path, "full")
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert [json.loads(one.outputs or b"") for one in run.steps] == [
        {"output": "<_thread.lock>"},
        {"output": "<builtins.list>"},
        {"output": None},
        {"output": "<builtins.bytes>"},
    ]


@on_a_loop
async def test_large_payloads_have_files(tmp_path: Path) -> None:
    """Beyond 64 KiB a payload is kept once in a file that is named by its content, and read back from there."""

    @step
    def repeat(text: str) -> str:
        return text

    @pipeline
    def copying(text: str) -> str:
        return repeat(text)

    text = "x" * 70_000
    run_id = await run_once(copying, tmp_path, "full", text=text)
    assert counts(tmp_path)["artifacts"] == 3
    assert len([path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]) == 2
    run = await asyncio.to_thread(recorded, tmp_path, run_id)
    assert run is not None
    assert json.loads(run.parameters or b"") == {"text": text}
    assert json.loads(run.outputs or b"") == json.loads(run.steps[0].outputs or b"") == {"output": text}


@on_a_loop
async def test_files_elsewhere(tmp_path: Path) -> None:
    """`artifact_url` names another folder."""

    @pipeline
    def echo(text: str) -> str:
        return text

    async with started(echo, tmp_path, "full", artifact_url=str(tmp_path / "large")) as deployment:
        await deployment.service.invoke({"text": "x" * 70_000})
    assert len(list((tmp_path / "large").rglob("*.json"))) == 2
    assert not (tmp_path / "artifacts").exists()


@on_a_loop
async def test_files_that_need_a_library(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A URL that only fsspec knows is told of with what to install where it is missing; the run goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "fsspec", None)
        patch.setitem(sys.modules, "fsspec.core", None)

        @pipeline
        def echo(text: str) -> str:
            return text

        async with started(echo, tmp_path, "full", artifact_url="s3://bucket/large") as deployment:
            run = await deployment.service.invoke({"text": "x" * 70_000})
    assert run.error is None
    assert "pip install fsspec" in caplog.text


@on_a_loop
async def test_retention(tmp_path: Path) -> None:
    """Runs that are older than the retention go with all they left, the files that no other run names included."""

    @pipeline
    def echo(text: str) -> str:
        return text

    shared, own = "x" * 70_000, "y" * 70_000
    async with started(echo, tmp_path, "full", capture_retention=60) as deployment:
        recorder = deployment.service._recorder  # type: ignore[attr-defined]
        for text in (own, shared):
            await deployment.service.invoke({"text": text}, capture=b'{"mode":"BATCH"}')
        recorder._clock = lambda: time.time() + 61
        assert await recorder.prune() == 2
        kept = await deployment.service.invoke({"text": shared}, capture=b'{"mode":"BATCH"}')
        files = list((tmp_path / "artifacts").rglob("*.json"))
        assert len(files) == 4  # asked for of late: they wait
        for path in files:
            os.utime(path, (1, 1))
        recorder._clock = lambda: 0.0
        assert await recorder.prune() == 0
    assert counts(tmp_path)["runs"] == 1
    assert len(list((tmp_path / "artifacts").rglob("*.json"))) == 2
    run = await asyncio.to_thread(recorded, tmp_path, kept.id)
    assert run is not None
    assert json.loads(run.outputs or b"") == {"output": shared}
