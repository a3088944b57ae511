"""Both clients and a real server, behind moved paths and a key."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgipipe.client import (
    AnswerTimeoutError,
    AsyncDeploymentClient,
    ConflictRefusedError,
    DeploymentClient,
    ForeignAnswerError,
    InputRefusedError,
    InvocationCanceledError,
    InvocationError,
    InvocationTimeoutError,
    KeyRefusedError,
    UnknownError,
)
from asgipipe.jobs.states import JobState
from tests.servers.command import PATIENCE, serving, until

FLOW = '''
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from asgipipe import get_step_context, pipeline, step

@step
def work(rounds: int) -> int:
    for done in range(rounds):
        time.sleep(0.01)
        get_step_context().progress(done / rounds, "working")
        if get_step_context().cancelled:
            break
    return rounds

@step
def hold(seconds: float) -> None:
    time.sleep(seconds)

@pipeline
def flow(rounds: int = 1, fail: bool = False, gate: str | None = None) -> Annotated[int, "rounds"]:
    """Work for some rounds, once there is a file `gate`."""
    while gate is not None and not Path(gate).exists():
        hold(0.01)
    if fail:
        raise ValueError("as told")
    return work(rounds)

@pipeline
def words(count: int = 3) -> Iterator[str]:
    for number in range(count):
        yield f"{number} "
'''
MOVED = """
settings:
  deployment:
    root_url_path: /root
    api_url_path: /api
    invoke_url_path: /go
    info_url_path: /about
    jobs_url_path: /work
    stream_url_path: /events
    auth_key: correct-horse
    capture: full
"""
KEY = "correct-horse"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "flow.py").write_text(FLOW)
    (folder / "moved.yaml").write_text(MOVED)
    return folder


@pytest.fixture(scope="module")
def moved(folder: Path) -> Iterator[str]:
    """Serve the pipeline at other paths than the usual ones; gives the root of the server."""
    with serving("flow.py:flow", "-c", "moved.yaml", folder=folder) as server:
        yield server.origin


def test_a_moved_deployment(moved: str) -> None:
    """Given the root of a server alone, or any prefix of its own, all calls find their places."""
    for root in ("", "/", "/root", "/root/api"):
        with DeploymentClient(f"{moved}{root}", auth_key=KEY) as client:
            assert client.invoke(rounds=2).value == {"rounds": 2}
    with DeploymentClient(moved, auth_key=KEY) as client:
        job = client.submit(rounds=3)
        assert job.result().outputs == {"rounds": 3}
        shown = job.show()
        assert (shown.status, shown.parameters) == (JobState.COMPLETED, {"rounds": 3, "fail": False, "gate": None})
        assert shown.result is not None
        assert shown.result.value == {"rounds": 3}
        assert shown.progress is not None
        assert shown.progress.message == "working"
        assert [one.event_type for one in job.stream()][-2:] == ["step_completed", "pipeline_completed"]
        assert [one.job_id for one in client.jobs(status=JobState.COMPLETED)] == [job.job_id]
        until(lambda: job.job_id in [one.run_id for one in client.runs(status="completed")], "what is recorded later")
        assert [step.name for step in client.run(job.job_id).steps] == ["work"]
        info = client.info()
        assert (info.deployment.name, info.pipeline.description) == (
            "flow",
            "Work for some rounds, once there is a file `gate`.",
        )
        assert client.ready()
        assert client.health().status == "healthy"
        assert client.status()["deployment"]["name"] == "flow"
        assert "asgipipe_runs_total" in client.metrics()


def test_what_goes_wrong(moved: str) -> None:
    """Failures, deadlines, wrong parameters, unknown jobs and wrong keys are told apart."""
    with DeploymentClient(f"{moved}/root", auth_key=KEY) as client:
        with pytest.raises(InvocationError, match="which failed: as told"):
            client.invoke(fail=True)
        with pytest.raises(InvocationTimeoutError):
            client.invoke(rounds=1000, timeout=0.1)
        with pytest.raises(InvocationTimeoutError):
            client.submit(rounds=1000, timeout=0.1).result()
        with pytest.raises(AnswerTimeoutError, match="it goes on"):
            client.submit(delay=60).wait(timeout=0.1)
        with pytest.raises(InputRefusedError, match=r"parameters\.rounds: Input should be a valid integer") as caught:
            client.invoke(rounds="many")
        assert caught.value.type == "urn:asgipipe:validation"
        with pytest.raises(UnknownError, match="There is no job of this id"):
            client.job("01a1fc4d-c9bb-7000-a025-05c39bab794e").show()
    for key in (None, "wrong"):
        with DeploymentClient(f"{moved}/root/api", auth_key=key) as client, pytest.raises(KeyRefusedError):
            client.invoke()


def test_cancelling(moved: str) -> None:
    """A running job is cancelled with a reason, its result raises, and one that has ended cannot be cancelled."""
    with DeploymentClient(f"{moved}/root", auth_key=KEY) as client:
        job = client.submit(rounds=3000)
        with job.stream() as events:
            next(one for one in events if one.event_type == "progress")
            assert job.cancel("enough") is JobState.RUNNING
            with pytest.raises(InvocationCanceledError, match="enough"):
                events.result()
        assert job.wait().cancel_reason == "enough"
        with pytest.raises(InvocationCanceledError):
            job.result()
        done = client.submit()
        done.wait()
        with pytest.raises(ConflictRefusedError):
            done.cancel()


def test_keys_of_the_caller(moved: str) -> None:
    """A key that was used gives the first answer again; with other parameters it is refused."""
    with DeploymentClient(f"{moved}/root", auth_key=KEY) as client:
        first, again = [client.invoke(rounds=2, idempotency_key="mine") for _ in range(2)]
        assert (first.replayed, again.replayed) == (False, True)
        assert first.run_id == again.run_id
        assert client.submit(idempotency_key="a-job").job_id == client.submit(idempotency_key="a-job").job_id
        with pytest.raises(InputRefusedError):
            client.invoke(rounds=3, idempotency_key="mine")


def test_programs_that_await(moved: str) -> None:
    """The asynchronous client does the same: runs, jobs, streams and lists."""

    async def main() -> None:
        async with AsyncDeploymentClient(moved, auth_key=KEY) as client:
            found, job = await asyncio.gather(client.invoke(rounds=2), client.submit(rounds=3))
            assert found.value == {"rounds": 2}
            assert (await job.result()).outputs == {"rounds": 3}
            assert (await job.status(), (await job.wait()).attempt) == (JobState.COMPLETED, 1)
            assert (await job.progress()) is not None
            async with client.stream(rounds=2) as events:
                assert [one.id async for one in events][:2] == [1, 2]
                assert (await events.result()).outputs == {"rounds": 2}
            async with client.stream(rounds=3000) as events:
                assert (await anext(events)).event_type == "pipeline_started"
            assert (await client.job(events.job_id).wait(PATIENCE)).status is JobState.CANCELED
            assert len([one async for one in client.jobs(limit=2)]) == 2
            recorded: list[str] = []
            while found.run_id not in recorded:  # what is written later
                recorded = [one.run_id async for one in client.runs()]
            assert (await client.run(found.run_id)).run_name == found.metadata.run_name
            assert (await client.info()).deployment.name == "flow"
            assert await client.ready()
            assert (await client.health()).status == "healthy"
            assert await client.status()
            assert await client.metrics()
            assert await (await client.submit(delay=60)).cancel() is JobState.CANCELED

    asyncio.run(main())


def test_trio(moved: str) -> None:
    """The asynchronous client runs on trio, too, where that is installed."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        async with AsyncDeploymentClient(f"{moved}/root", auth_key=KEY) as client:
            assert (await (await client.submit()).result()).outputs == {"rounds": 1}

    trio.run(main)


def test_several_pipelines(folder: Path) -> None:
    """At the root of a server of several, the error names the URL of each; below one of those, it works."""
    with serving("flow.py:flow", "flow.py:words", folder=folder) as server:
        root = server.origin
        with DeploymentClient(root) as client, pytest.raises(ForeignAnswerError) as caught:
            client.invoke()
        urls = [f"{root}/flow", f"{root}/words"]
        assert str(caught.value) == f"{root} serves several deployments; give the URL of one: {', '.join(urls)}"
        with DeploymentClient(urls[1]) as client:
            events = client.stream(count=2)
            assert [one.delta for one in events if one.delta] == ["0 ", "1 "]
            assert events.result().outputs == {"output": "0 1 "}


def test_an_endpoint_that_is_switched_off(folder: Path) -> None:
    """What a deployment does not have is said so, not that it was not found."""
    options = ("--include-default-endpoints", "INVOKE,INFO")
    with serving("flow.py:flow", *options, folder=folder) as server, DeploymentClient(server.origin) as client:
        assert client.invoke().outputs == {"rounds": 1}
        with pytest.raises(UnknownError, match="has no jobs endpoint: it is switched off by its settings"):
            list(client.jobs())


def test_a_restart(folder: Path) -> None:
    """Who follows a job gets its end, which another process has brought about."""
    short = ("--drain-timeout", "0.1")
    with serving("flow.py:flow", *short, folder=folder) as server, DeploymentClient(server.origin) as client:
        job = client.submit(rounds=2, gate="gate")
        events = job.stream()
        assert next(events).event_type == "pipeline_started"
        server.stop()
        (folder / "gate").touch()
        with serving("flow.py:flow", "--port", str(server.port), folder=folder):
            assert events.result().outputs == {"rounds": 2}
            assert job.show().attempt == 2
